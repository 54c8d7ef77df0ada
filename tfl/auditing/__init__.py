"""The audit of a cache: leaked, duplicate, mislabelled and odd images, by features and by a look at the pixels."""
