"""What a model costs before any clock runs: size, parameters, multiply-adds; and where its time goes."""
