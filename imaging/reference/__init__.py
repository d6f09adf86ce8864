"""Reference catalogues: column selection and mapping, rounding, HEALPix partitions."""
