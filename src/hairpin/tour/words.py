"""Why each step is as it is, in English and 中文; keyed by the step's id in ``claims.seed``."""

from __future__ import annotations

from hairpin.claims.base import Text

INTRODUCTION = Text(
    "A Service is a virtual IP that no machine owns. Here one is built by hand on a real Linux "
    "kernel: two Pods called foo and bar, a bridge, and an IPVS virtual server in front of them. "
    "Every connection below is a real one, and every command shown can be typed into a shell on "
    "the node. hairpin makes the same changes itself, over netlink.",
    "Service 是一个不属于任何机器的虚拟 IP. 这里我们在真实的 Linux 内核上从零搭建一个: "
    "两个 Pod (foo 和 bar), 一个网桥, 以及它们前面的 IPVS 虚拟服务. "
    "下面的每个连接都是真实的, 显示的每条命令都可以在节点的 shell 里直接输入; "
    "hairpin 自己则通过 netlink 完成同样的操作.",
)

WHY: dict[str, Text] = {
    "namespaces": Text(
        "Each Pod has a network namespace of its own: its own links, addresses, routes and "
        "firewall. A new one holds nothing but lo, so there is no route to anywhere, and a "
        "connection fails at once instead of hanging.",
        "每个 Pod 都有自己的网络命名空间: 独立的设备, 地址, 路由和防火墙. "
        "新建的命名空间里只有 lo, 没有去往任何地方的路由, 所以连接会立即失败, 而不是卡住.",
    ),
    "bridge": Text(
        "A veth pair is a cable: one end in the Pod, the other in a port of the bridge cni0. The "
        "bridge has an address too, so the node is on the same network as the Pods and reaches "
        "them directly.",
        "veth 就像一根网线: 一端在 Pod 里, 另一端插在网桥 cni0 的端口上. "
        "网桥自己也有地址, 因此节点和 Pod 在同一个网络里, 可以直接访问它们.",
    ),
    "forward": Text(
        "bar and foo are ports of one bridge, so their packets are bridged and not routed. But "
        "this node has br_netfilter on (bridge-nf-call-iptables=1), which sends bridged packets "
        "through iptables as well, and where Docker or a firewall has set the FORWARD policy to "
        "DROP they die there. Two rules let cni0 through. net.ipv4.ip_forward plays no part: "
        "nothing is routed here. It will later.",
        "bar 和 foo 接在同一个网桥上, 它们之间的包是桥接的, 不经过路由. "
        "但是这个节点开启了 br_netfilter (bridge-nf-call-iptables=1), 桥接的包也要过 iptables; "
        "如果 Docker 或防火墙把 FORWARD 的默认策略设成了 DROP, 包就在那里被丢弃. "
        "两条规则放行 cni0 即可. 此时 net.ipv4.ip_forward 不起作用, 因为这里没有路由转发. "
        "后面就需要它了.",
    ),
    "virtual-server": Text(
        "An IPVS virtual server takes connections to 172.23.0.1:8080 and rewrites their "
        "destination to a real server. No machine owns that address. The node has a default "
        "route, so it sends packets for it out of its uplink with its uplink's address as the "
        "source, and IPVS takes them in LOCAL_OUT, on their way. foo gets the request, "
        "but to answer 192.168.100.2 "
        "it needs a route, and until now it knows only its own network.",
        "IPVS 虚拟服务接收发往 172.23.0.1:8080 的连接, 并把目的地址改写成某个后端. "
        "没有机器拥有这个地址. 节点有默认路由, 所以这个包本来要从上行口发出, 源地址是上行口的地址, "
        "途中在 LOCAL_OUT 被 IPVS 截获. foo 收到了请求, 但是要回答 192.168.100.2 需要路由, "
        "而它目前只认识自己的网段.",
    ),
    "round-robin": Text(
        "A second real server, and the scheduler rr hands out connections in turn. It is not "
        "random and keeps no memory of clients: six connections go to foo, bar, foo, bar, foo, "
        "bar.",
        "增加第二个后端后, 调度算法 rr 依次分配连接. 它不是随机的, 也不记得客户端: "
        "六个连接依次落到 foo, bar, foo, bar, foo, bar.",
    ),
    "removal": Text(
        "A real server that is removed gets no new connections from that moment on. kube-proxy "
        "is gentler: it sets the weight to 0 first and removes the real server when its "
        "connections have ended.",
        "被移除的后端从此刻起不再收到新连接. kube-proxy 要温和一些: "
        "先把权重设为 0, 等已有连接结束后再移除.",
    ),
    "vip-local": Text(
        "IPVS looks at packets in two places: LOCAL_OUT, where the node's own pass, and LOCAL_IN, "
        "where those arrive that are addressed to the node. bar's packet comes in on cni0, and "
        "172.23.0.1 is not an address of this node: it takes the way of routed packets, sees no "
        "IPVS, and is lost. A dummy device that holds the VIP makes it local. kube-proxy calls "
        "that device kube-ipvs0. One effect to remember: the node now takes the VIP itself as the "
        "source of its connections to it.",
        "IPVS 在两个地方检查包: LOCAL_OUT, 节点自己发出的包经过这里; LOCAL_IN, "
        "目的地址属于本节点的包到达这里. "
        "bar 的包从 cni0 进来, 而 172.23.0.1 不是本节点的地址, 它走的是路由转发的路径, "
        "遇不到 IPVS, 然后丢失. "
        "用一个 dummy 设备持有 VIP, 它就成了本地地址. kube-proxy 把这个设备叫做 kube-ipvs0. "
        "顺带的影响: 节点自己访问 VIP 时, 源地址变成了 VIP 本身.",
    ),
    "self": Text(
        "Now foo asks for the VIP and IPVS picks foo. The packet would have to leave the bridge "
        "by the port that it came in on, which a bridge refuses. And if it did arrive, foo would "
        "see a packet from its own address, 172.22.0.2, and not take it. This is the classic "
        "riddle: a Pod cannot reach itself through its own Service.",
        "现在 foo 访问 VIP, IPVS 选中了 foo 自己. 这个包必须从它进来的那个端口再出去, "
        "而网桥拒绝这样做. "
        "即使到达了, foo 看到的也是一个来自自己地址 172.22.0.2 的包, 不会接受. "
        "这就是那个经典的谜题: Pod 无法通过自己的 Service 访问自己.",
    ),
    "not-enough": Text(
        "Three things are missing. The bridge must hand the frame back (hairpin: here cni0 is "
        "set promiscuous). The source must be another than foo's own (SNAT: a MASQUERADE rule). "
        "And IPVS must show its connections to conntrack, or NAT does not touch them "
        "(net.ipv4.vs.conntrack). Each alone, and each pair, is tried: six connections, all of "
        "which must time out.",
        "缺少三样东西. 网桥要允许包原路返回 (hairpin: 这里把 cni0 设为混杂模式). "
        "源地址不能是 foo 自己 (SNAT: 一条 MASQUERADE 规则). "
        "IPVS 的连接要让 conntrack 看见, 否则 NAT 不会处理它们 (net.ipv4.vs.conntrack). "
        "下面逐一尝试每一样和每两样的组合: 六个连接, 全部应当超时.",
    ),
    "all-three": Text(
        "With all three, foo reaches itself and sees the request come from the bridge, 172.22.0.1. "
        "That also means that the answer goes to the node, which must route it back, so there is "
        "a fourth condition that every cluster node has and few name: ip_forward. It has been on "
        "since the last step. Without it the other three are in vain.",
        "三样齐全, foo 访问到了自己, 它看到请求来自网桥 172.22.0.1. "
        "这也意味着回答先到达节点, 再由节点路由回去, 所以还有第四个条件, "
        "集群节点都满足而很少有人提起: "
        "ip_forward. 从上一步起它就是打开的. 没有它, 另外三样都白费.",
    ),
    "no-br-netfilter": Text(
        "The hairpin is needed because of br_netfilter. With it on, the node still sees the "
        "packet as a bridged one, from foo's port back to foo's port. With it off, the bridge "
        "gives the frame to the node, IPVS sends a new one as the node's own, and no frame "
        "returns to its port. Masquerading and IPVS conntrack are still needed.",
        "之所以需要 hairpin, 是因为 br_netfilter. 它打开时, 这个包仍被当作桥接的包, "
        "从 foo 的端口回到 foo 的端口. "
        "它关闭时, 网桥把帧交给节点, IPVS 以节点的名义重新发出, 就没有帧要原路返回了. "
        "SNAT 和 IPVS conntrack 仍然需要.",
    ),
    "bar-needs-masquerade": Text(
        "But now bar needs masquerading as much as foo. foo answers bar straight across the "
        "bridge; with br_netfilter off that answer no longer passes the node's netfilter hooks, "
        "so IPVS cannot turn its source back into the VIP, and bar drops an answer from a "
        "stranger. Masqueraded, the answer has to come back through the node.",
        "但是现在 bar 和 foo 一样需要 SNAT. foo 的回答直接经过网桥到达 bar; br_netfilter 关闭后, "
        "这个回答不再经过节点的 netfilter 钩子, IPVS 无法把源地址改回 VIP, "
        "bar 就丢弃了这个陌生的回答. "
        "做了 SNAT, 回答就必须经过节点返回.",
    ),
}

CLOSING = Text(
    "Next: hairpin matrix tries all combinations; hairpin up -f examples/seed.yaml builds this "
    "lab for you to break.",
    "接下来: hairpin matrix 会尝试所有组合; "
    "hairpin up -f examples/seed.yaml 搭建一个供你折腾的环境.",
)

LABELS: dict[str, Text] = {
    "step": Text("Step", "第"),
    "held": Text("held", "成立"),
    "failed": Text("did not hold", "不成立"),
    "expected": Text("expected", "预期"),
    "seen": Text("seen", "看到"),
    "from": Text("from", "从"),
    "claims": Text("claims held", "个论断成立"),
    "prompt": Text(
        "Enter: next   b: back   s: a shell on the node   q: quit",
        "回车: 下一步   b: 上一步   s: 在节点上打开 shell   q: 退出",
    ),
    "starting": Text("starting a kernel", "正在启动内核"),
    "rebuilding": Text("building what this step stands on", "正在搭建这一步的基础"),
}
