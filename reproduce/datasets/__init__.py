"""The data sets, and the ways to them. Knows no experiment."""
