"""What single rewrites, forms and kinds of int8 gain."""
