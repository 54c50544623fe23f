"""vtopt's recipes beside the tools that an engineer could take instead, in one run."""
