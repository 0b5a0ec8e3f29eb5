"""The HTTP client, the bounded listener around every server, TLS, proxies."""
