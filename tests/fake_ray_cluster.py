"""A Ray cluster of two nodes on this machine; prints its address, and kills the second node on a line from stdin."""

import sys

from ray.cluster_utils import Cluster

SIZE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={**SIZE, "include_dashboard": False})
    second = cluster.add_node(**SIZE)
    print(f"address {cluster.address}", flush=True)
    sys.stdin.readline()
    cluster.remove_node(second, allow_graceful=False)
    print("killed", flush=True)
    sys.stdin.readline()
    cluster.shutdown()
