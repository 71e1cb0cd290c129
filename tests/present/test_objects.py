"""The rows of ``hairpin get proxies``: one a node, and what the kernel refuses below it."""

from typing import Any

from hairpin.present.objects import columns

STATUS: dict[str, Any] = {
    "node": "one",
    "mode": "ipvs",
    "synced": False,
    "services": 2,
    "objects": {"virtual-server": 3, "set-entry": 9},
    "drift": {"set-entry": 2},
    "terminating": [{}],
    "syncs": 7,
    "full_syncs": 1,
    "last_duration": 0.0526,
    "problems": {"default/web": ["…"]},
    "conflicts": {},
    "pending_count": 3,
    "pending": [
        {
            "verb": "add",
            "object": {"kind": "virtual-server", "protocol": "TCP", "ip": "10.96.0.1", "port": 80},
            "errno": "ENOSPC",
            "retry_in": 4.2,
        },
        {
            "verb": "remove",
            "object": {"kind": "set-entry", "set": "KUBE-CLUSTER-IP", "ip": "10.96.0.1",
                       "protocol": "TCP", "port": 80, "ip2": None, "net": None},
            "errno": "EPERM",
            "retry_in": 0,
        },
    ],
}  # fmt: skip


def test_each_refusal_has_a_row() -> None:
    header, rows = columns("proxies", [STATUS], now=0.0)
    assert header[-1] == "PENDING"
    assert rows[0][:-1] == ["one", "ipvs", "no", "2", "12", "2", "1"]
    assert [row[-1] for row in rows] == [
        "ENOSPC: add virtual server TCP 10.96.0.1:80, rr (again in 4s)",
        "EPERM: remove entry 10.96.0.1,tcp:80 of KUBE-CLUSTER-IP (again in 0s)",
        "and 1 more",
    ]
    assert all(len(row) == len(header) for row in rows)


def test_wide_has_more_columns_in_every_row() -> None:
    header, rows = columns("proxies", [STATUS], now=0.0, wide=True)
    assert all(len(row) == len(header) for row in rows)
    assert dict(zip(header, rows[0], strict=True))["DURATION"] == "52.6 ms"
    assert dict(zip(header, rows[0], strict=True))["PROBLEMS"] == "1"


def test_a_well_proxy_has_one_row() -> None:
    well = {**STATUS, "synced": True, "pending": [], "pending_count": 0}
    _, rows = columns("proxies", [well], now=0.0)
    assert len(rows) == 1 and rows[0][2] == "yes" and rows[0][-1] == "<none>"
