"""From records in assets/ to figures, tables and pages."""
