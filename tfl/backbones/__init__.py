"""Images to features: the frozen pretrained network, with resizing, views and weights."""
