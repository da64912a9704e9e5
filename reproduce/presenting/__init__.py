"""How figures, tables and numbers look. Knows no experiment."""
