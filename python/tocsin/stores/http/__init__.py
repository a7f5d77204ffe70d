"""HTTP as registries and web servers need it: requests, redirects, ranges, retries."""
