"""Records, devices, options, commands: what every run needs. Knows no experiment."""
