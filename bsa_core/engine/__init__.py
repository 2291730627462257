"""What is done with a loaded model: fine-tuning, decoding, evaluation."""
