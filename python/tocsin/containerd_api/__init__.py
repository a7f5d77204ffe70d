"""The messages of containerd's gRPC API that tocsin needs: see messages.proto."""
