"""Who a request is from: keys checked against hashes, and what each tenant may use."""
