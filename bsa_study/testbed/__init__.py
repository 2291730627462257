"""How the shipped models were made: the guild's tokenizer, exercises, training and alignment."""
