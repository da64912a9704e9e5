"""What the reproduction scripts share: data, records and figures."""
