"""The parts of the cluster: how each is started. Pure."""

from k8s.cluster.places import ETC, NODE, NODE_ADDRESS, PKI, POD_RANGE, SERVICE_RANGE

_NO_ELECTION = "--leader-elect=false"


def etcd() -> list[str]:
    """The store of all objects; what it holds need not outlive a power cut."""
    return ["etcd", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync"]


def api_server() -> list[str]:
    """The one that all others talk to."""
    return [
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={NODE_ADDRESS}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={PKI}/ca.crt",
        f"--tls-cert-file={PKI}/apiserver.crt",
        f"--tls-private-key-file={PKI}/apiserver.key",
        f"--kubelet-certificate-authority={PKI}/ca.crt",
        f"--kubelet-client-certificate={PKI}/admin.crt",
        f"--kubelet-client-key={PKI}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={PKI}/accounts.pub",
        f"--service-account-signing-key-file={PKI}/accounts.key",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
    ]


def controller_manager() -> list[str]:
    """Jobs, Deployments, endpoints, garbage."""
    return [
        "kube-controller-manager",
        *_as("controller-manager"),
        _NO_ELECTION,
        f"--root-ca-file={PKI}/ca.crt",
        f"--service-account-private-key-file={PKI}/accounts.key",
        "--use-service-account-credentials=true",
    ]


def scheduler() -> list[str]:
    """Gives pods their node, and preempts."""
    return ["kube-scheduler", *_as("scheduler"), _NO_ELECTION]


def containerd() -> list[str]:
    """Runs containers."""
    return ["containerd", f"--config={ETC}/containerd.toml"]


def kubelet() -> list[str]:
    """The node."""
    return [
        "kubelet",
        f"--config={ETC}/kubelet.yaml",
        f"--kubeconfig={ETC}/kubelet.conf",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    ]


def kube_proxy() -> list[str]:
    """Services' addresses. The limits of connections are the whole machine's: left alone."""
    return [
        "kube-proxy",
        f"--kubeconfig={ETC}/admin.conf",
        f"--hostname-override={NODE}",
        f"--cluster-cidr={POD_RANGE}",
        "--proxy-mode=iptables",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--oom-score-adj=0",
    ]


def kube_router() -> list[str]:
    """Enforces NetworkPolicies, and does nothing else."""
    return [
        "kube-router",
        f"--kubeconfig={ETC}/admin.conf",
        f"--hostname-override={NODE}",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--metrics-port=0",
        "--health-port=0",
    ]


def coredns() -> list[str]:
    """The names of Services and their pods."""
    return ["coredns", f"-conf={ETC}/Corefile"]


def _as(client: str) -> list[str]:
    names = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    return [f"--{name}={ETC}/{client}.conf" for name in names]
