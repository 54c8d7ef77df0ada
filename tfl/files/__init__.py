"""Files of ours and of strangers: paths, home folders, assets, HDF5 and JSON read with care."""
