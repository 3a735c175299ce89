"""What a plan costs, what fits a device, and how it is described."""
