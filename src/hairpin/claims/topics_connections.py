"""Topics of connections: which endpoint they get, and how long they last.  Pure."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.topics import EVERY, MORE_WORKS, Topic, by_mode

_ENDS = Text("ends", "结束")
_ONE_FOR_BOTH = Text("one endpoint for both", "两处同一端点")
_AT_RANDOM = Text("one at random", "随机")
_GOES_ON = Text("the connection goes on", "连接继续")
_RESETS = Text(
    "reaches the client unchanged, which resets the connection", "原样到达客户端, 连接被重置"
)
_LONGER = Text(
    "raise timeoutSeconds where clients that pause must stay",
    "若会停顿的客户端必须保持, 调高 timeoutSeconds",
)
_LESS_EVEN = Text(
    "few connections spread less evenly; another ipvs.scheduler than rr has no counterpart",
    "连接少时分配较不均匀; rr 以外的 ipvs.scheduler 没有对应",
)
_LIBERAL = Text(
    "where connections are reset under load (k/k#74839): conntrack.tcpBeLiberal, or a rule of your "
    "own that drops INVALID",
    "若高负载下连接被重置 (k/k#74839): 设置 conntrack.tcpBeLiberal 或自行丢弃 INVALID",
)

CONNECTIONS: tuple[Topic, ...] = (
    Topic(
        name="spread",
        about=Text("which endpoint a new connection gets", "新连接得到哪个端点"),
        concerns=EVERY,
        does=by_mode(
            Text("the next in turn (ipvs.scheduler rr)", "轮询 (ipvs.scheduler rr)"),
            _AT_RANDOM,
            _AT_RANDOM,
        ),
        todo=by_mode(
            Text("nothing: the spread gets more even", "无需处理: 分配更均匀"),
            _LESS_EVEN,
            _LESS_EVEN,
        ),
    ),
    Topic(
        name="affinity-timeout",
        about=Text(
            "session affinity after timeoutSeconds without a connection",
            "超过 timeoutSeconds 没有连接后的会话亲和性",
        ),
        concerns="affinity",
        does=by_mode(
            Text(
                "lasts until closed connections are forgotten, two minutes later",
                "持续到已关闭的连接被遗忘 (两分钟后)",
            ),
            _ENDS,
            _ENDS,
        ),
        todo=by_mode(
            Text("nothing, unless timeoutSeconds is short", "timeoutSeconds 很短时才需注意"),
            _LONGER,
            _LONGER,
        ),
    ),
    Topic(
        name="affinity-frontends",
        about=Text(
            "session affinity of one client at the ClusterIP and at the node port",
            "同一客户端在 ClusterIP 和节点端口上的会话亲和性",
        ),
        concerns="affinity-exposed",
        does=by_mode(
            Text("each address has its own: it may be two endpoints", "每个地址各自独立"),
            _ONE_FOR_BOTH,
            _ONE_FOR_BOTH,
        ),
        todo=by_mode(
            Text("let a client use one of the addresses alone", "让客户端只用其中一个地址"),
            MORE_WORKS,
            MORE_WORKS,
        ),
    ),
    Topic(
        name="invalid-packets",
        about=Text(
            "a server's packet that connection tracking calls INVALID, as it is out of the window",
            "服务端发出的超出窗口而被连接跟踪判为 INVALID 的报文",
        ),
        concerns="tcp",
        does=by_mode(_GOES_ON, _GOES_ON, _RESETS),
        todo=by_mode(MORE_WORKS, MORE_WORKS, _LIBERAL),
    ),
    Topic(
        name="idle-connections",
        about=Text(
            "an open connection on which nothing is sent for a quarter of an hour",
            "十五分钟没有报文的已打开连接",
        ),
        concerns="tcp",
        does=by_mode(
            Text(
                "forgotten (ipvs.tcpTimeout, 900 s): what is sent next is answered with a reset",
                "被遗忘 (ipvs.tcpTimeout, 900 秒): 之后发送的报文得到重置",
            ),
            _GOES_ON,
            _GOES_ON,
        ),
        todo=by_mode(
            Text(
                "set ipvs.tcpTimeout, or let clients send keepalives within 15 minutes "
                "(net.ipv4.tcp_keepalive_time is 2 hours)",
                "设置 ipvs.tcpTimeout, 或让客户端在十五分钟内发送 keepalive "
                "(net.ipv4.tcp_keepalive_time 为两小时)",
            ),
            MORE_WORKS,
            MORE_WORKS,
        ),
    ),
    Topic(
        name="service-deleted",
        about=Text(
            "open connections of a Service that is deleted",
            "Service 被删除后已打开的连接",
        ),
        concerns=EVERY,
        does=by_mode(
            Text("end: no answer comes any more", "中断: 不再有回答"),
            Text("go on as long as the Pod is there", "只要 Pod 还在就继续"),
            Text("go on as long as the Pod is there", "只要 Pod 还在就继续"),
        ),
        todo=by_mode(
            Text(
                "let clients leave a Service before it is deleted",
                "删除 Service 之前先让客户端离开",
            ),
            MORE_WORKS,
            MORE_WORKS,
        ),
    ),
)
