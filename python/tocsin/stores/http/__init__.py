"""HTTP for registries and web servers: requests, redirects, ranges and retries."""
