"""Reports: records formatted as text for people."""
