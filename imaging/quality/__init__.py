"""Quality control: verification of products, grades, effective exposure."""
