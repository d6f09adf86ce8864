"""Templates: which earlier exposures a search CCD is compared with, and their stack on its pixel grid."""
