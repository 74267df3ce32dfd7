"""The worker: the only room with Faust in it. One process owns some partitions and charges their orgs."""
