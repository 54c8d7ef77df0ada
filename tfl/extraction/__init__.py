"""The one loop over the images, and the assets that it needs."""
