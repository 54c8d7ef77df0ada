"""The formats of an exported model; one file a format."""
