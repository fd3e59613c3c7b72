"""What is read while a rival works."""
