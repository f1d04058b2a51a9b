"""The course: pages whose numbers and pictures the library computes."""
