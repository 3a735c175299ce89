"""pplemd: distil a diffusion model into one step."""
