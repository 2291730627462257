"""What an arm trains on and is served with: attacks, defenses, the secret prompt."""
