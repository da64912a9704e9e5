"""Two consequences of the end-to-end rule, measured on the gas-sensor Ethanol regression."""
