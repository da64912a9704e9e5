"""The end-to-end rule as a field of arrows in the plane."""
