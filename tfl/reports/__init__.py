"""What the commands found, in text and pictures; made from plain records alone."""
