"""The model: where its weights come from, loading, the chat format, memory."""
