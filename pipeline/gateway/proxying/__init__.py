"""What a proxy of another maker needs beside the gateway library: settings, spools, reservations and events."""
