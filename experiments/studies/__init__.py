"""Studies: experiments in another setting. Each runs only when it is named."""
