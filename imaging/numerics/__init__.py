"""Small numerical tools that several stages share."""
