"""Does the probe's advice hold?"""
