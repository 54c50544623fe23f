"""`vtopt bench run` and `bench compare`: results that others can repeat."""
