"""Measure ``tocsin fleet``: what is read, the CPU time, kills, faults, and the scheduler.

::

    pip install 'distributed>=2024.1'
    TMPDIR=/dev/shm python benches/fleet.py

200 images of three layers are pushed to a docker-registry, each to a separate repository, twice:
with layers that are in two images on average, and in ten. Bytes and pushes are counted in the
registry's access log. The parts, chosen with ``--only``, take at most six minutes each on an idle
machine with two cores:

- ``cpu-two``, ``cpu-ten``: ``create`` of each image, one after the other in one process, compared
  with a fleet on a Dask ``LocalCluster`` of two workers. CPU time is that of all processes until
  the run ends, with Dask's scheduler and nannies, which run in the driver; the start of the
  cluster is shown separately;
- ``bytes``: only the fleet, for what it reads; the images of case ``ten``, as for the last two
  parts. It is not run if one of the former two is;
- ``kills``: the fleet's driver, scheduler and workers are killed together ten times at random
  moments while layers are read, then the run is resumed; the images of case ``two``, since it takes
  longer;
- ``faults``: a worker is killed for good, while a proxy answers 429 and 503 for a minute;
- ``simulated``: 10,000 images on 64 workers in virtual time, with costs that are measured here: the
  wall time of the driver, with tasks that end at once, compared with the virtual time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import fleet_registry
import fleet_simulated
import goals
import measure

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS = ("bytes", "cpu-two", "cpu-ten", "kills", "faults", "simulated")
_WORKERS = 2
_SIMULATED_WORKERS = 64
_KILLS = 10
_MAX_KILL_RUNS = 30
"""Runs to start until enough were killed while a layer was read."""
_TIMEOUT = 900.0
"""Seconds for a response: the processes of a busy machine may be suspended."""
_QUIET_DASK = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "2s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
}
"""Settings that docs/fleet.md recommends: Dask looks at itself less often."""
_BYTES = goals.Goal("bytes read over the sum of the unique layers", 1.02, at_most=True)
_CPU = {
    "two": goals.Goal("CPU over create one by one, layers shared by two", 0.65, at_most=True),
    "ten": goals.Goal("CPU over create one by one, layers shared by ten", 0.45, at_most=True),
}
_TWICE = goals.Goal(
    "kills: bytes read twice, without layers in flight, over the unique layers", 0.01, at_most=True
)
_HIT = goals.Goal("kills that hit a driver and workers reading layers", _KILLS)
_FAULTS = goals.Goal("faults: share of images with exactly one index", 1.0)
_SCHEDULER = goals.Goal("simulated: scheduler over wall time", 0.05, at_most=True)


def main() -> int:
    """Run the command line; return 0."""
    args = _arguments()
    if args.child:
        _CHILDREN[args.child[0]](*args.child[1:])
        return 0
    if not args.dask_defaults:
        os.environ.update(_QUIET_DASK)  # for all children
    figures: dict[str, Any] = {
        "machine": measure.machine(),
        "dask_defaults": args.dask_defaults,
        "images": args.images,
        "layer_mib": args.layer_mib,
        "load": os.getloadavg(),
    }
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as name:
        folder = Path(name)
        size = int(args.layer_mib * (1 << 20))
        fleets = {
            "two": fleet_registry.shared_by_two(args.images),
            "ten": fleet_registry.shared_by_ten(args.images),
        }
        case = functools.cache(lambda name: _Case(folder, fleets[name], size))
        if "bytes" in args.only and not {"cpu-two", "cpu-ten"} & set(args.only):
            figures["bytes"] = case("ten").measure_bytes()
            _show("bytes", figures)
        for sharing in fleets:
            if f"cpu-{sharing}" in args.only:
                figures.setdefault("cpu", {})[sharing] = case(sharing).measure_cpu()
                _show("cpu", figures)
        if "kills" in args.only:
            figures["kills"] = case("two").measure_kills(args.seed)
            _show("kills", figures)
        if "faults" in args.only:
            figures["faults"] = case("ten").measure_faults(args.busy_seconds)
            _show("faults", figures)
        if "simulated" in args.only:
            figures["simulated"] = case("ten").measure_scheduler(args.simulated_images)
    report = report_text(figures)
    print(report)
    if not args.no_record:
        print(f"recorded in {measure.record('fleet', figures, report, folder=args.record)}")
    return 0


def _show(part: str, figures: dict[str, Any]) -> None:
    """Print the figures of a part, so that they are not lost if a later part fails."""
    print(f"{part}: {json.dumps(figures[part])}", file=sys.stderr, flush=True)


class _Case:
    """The images of one case, in a registry's files that are copied for each run."""

    def __init__(self, folder: Path, fleet: fleet_registry.Fleet, layer_size: int) -> None:
        self._folder = folder / fleet.name
        self._folder.mkdir()
        self._fleet = fleet
        self._data = self._folder / "data"
        registry = fleet_registry.LoggedRegistry(self._folder, self._data)
        with registry.running() as host:
            self._layers = fleet_registry.push(host, fleet, layer_size)

    @property
    def _unique(self) -> int:
        return sum(self._layers.values())

    def measure_cpu(self) -> dict[str, Any]:
        alone, alone_served = self._with_registry(
            lambda host: self._child("create", host, *self._fleet.images)
        )
        together, served = self._with_registry(self._fleet_run)
        return {
            "sharing": self._fleet.sharing,
            "unique_layers": len(self._layers),
            "unique_bytes": self._unique,
            "create": {**alone, **_pushes(alone_served), "read": alone_served.read},
            "fleet": {**together, **_pushes(served), "read": served.read},
            "bytes_ratio": served.read / self._unique,
            "cpu_ratio": together["cpu"] / alone["cpu"],
        }

    def _fleet_run(self, host: str) -> dict[str, Any]:
        plan = self._folder / "plan.json"
        planned = self._child("plan", host, str(plan))
        ran = self._child("run", str(plan), str(self._new_journal()))
        return {**ran, "cpu": planned["cpu"] + ran["cpu"], "plan_cpu": planned["cpu"]}

    def measure_bytes(self) -> dict[str, Any]:
        result, served = self._with_registry(self._fleet_run)
        ratio = served.read / self._unique
        return {"read": served.read, "unique": self._unique, "ratio": ratio, **result}

    def measure_kills(self, seed: int) -> dict[str, Any]:
        chance = random.Random(seed)  # noqa: S311 (moments, not secrets)
        registry, data = self._registry()
        in_flight = runs = 0
        killed: list[dict[str, Any]] = []
        with registry.running() as host:
            plan, journal = self._folder / "plan.json", self._new_journal()
            self._child("plan", host, str(plan))
            done = set()
            while len(killed) < _KILLS and runs < _MAX_KILL_RUNS and len(done) < len(self._layers):
                runs += 1
                # What remains is divided, so that it lasts for all kills.
                left = (len(self._layers) - len(done)) / len(self._layers)
                longest = left * self._estimate() / (_KILLS - len(killed))
                moment = chance.uniform(0.05, max(0.1, longest))
                before = registry.served(self._layers).layers
                processes = self._killed_after(moment, plan, journal)
                time.sleep(0.5)  # until the registry has logged the requests that were cut
                after = registry.served(self._layers).layers
                done = _done_layers(plan, journal)
                flying = [each for each in after - before if each not in done]
                in_flight += sum(self._layers[each] for each in flying)
                row = {
                    "moment": moment,
                    "processes": processes,
                    "in_flight": len(flying),
                    "done": len(done),
                }
                print(f"run {runs}: {row}", file=sys.stderr, flush=True)
                # A kill counts if it hit a driver and workers that were reading layers.
                if processes > _WORKERS and flying:
                    killed.append(row)
            result = self._child("run", str(plan), str(journal))
            served = registry.served(self._layers)
        fleet_registry.remove(data)
        twice = sum(max(0, served.layers[each] - size) for each, size in self._layers.items())
        return {
            "kills": killed,
            "runs": runs,
            "unique_bytes": self._unique,
            "read_twice": twice,
            "in_flight": in_flight,
            "excess": max(0, twice - in_flight) / self._unique,
            "images": result["images"],
        }

    def _estimate(self) -> float:
        """Return about how long a whole run takes, from the bytes of the layers."""
        return self._unique / 100e6 / _WORKERS

    def _killed_after(self, moment: float, plan: Path, journal: Path) -> int:
        """Kill a run `moment` seconds after its cluster is ready.

        Returns:
            The number of processes that were killed: the driver, which runs Dask's scheduler, the
            workers, and Python's helpers of both; 0 if the run had ended.
        """
        words = [sys.executable, __file__, "--child", "run", str(plan), str(journal), "unchecked"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdout is not None
            process.stdout.readline()  # "ready"
            ended = select.select([process.stdout], [], [], moment)[0]
            processes = _group_size(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            return 0 if ended else processes

    def measure_faults(self, busy_seconds: float) -> dict[str, Any]:
        registry, data = self._registry()
        with (
            registry.running() as real,
            fleet_registry.busy_proxy(real, busy_seconds) as (host, statuses),
        ):
            plan = self._folder / "plan.json"
            started = time.monotonic()
            # Planning goes to the registry itself; the run, and so its tasks, to the proxy.
            self._child("plan", real, str(plan))
            _rename_host(plan, real, host)
            result = self._child("run", str(plan), str(self._new_journal()), "lose-a-worker")
            seconds = time.monotonic() - started
            served = registry.served(self._layers)
            counts = dict(statuses)
        fleet_registry.remove(data)
        once = sum(count == 1 for count in served.indexes.values())
        twice = sum(max(0, served.layers[each] - size) for each, size in self._layers.items())
        return {
            "seconds": seconds,
            "statuses": counts,
            "images": result["images"],
            "indexed_once": once,
            "indexed_twice": len(served.indexes) - once,
            "share": once / len(self._fleet.images),
            "read_twice": twice,
        }

    def measure_scheduler(self, image_count: int) -> dict[str, Any]:
        from tocsin import fleet  # noqa: PLC0415 (children need less)

        timed = fleet_simulated.TimedExecutor()
        registry, data = self._registry()
        with registry.running() as host:
            plan = self._folder / "plan.json"
            self._child("plan", host, str(plan))
            fleet.run(
                fleet.Plan.read(plan),
                self._new_journal(),
                executor=timed,
                jobs=1,
                check_push=False,
            )
        fleet_registry.remove(data)
        costs = timed.costs()
        large = fleet_simulated.plan_of(image_count)
        executor = fleet_simulated.SimulatedExecutor(costs, _SIMULATED_WORKERS)
        before, started = time.process_time(), time.monotonic()
        result = fleet.run(
            large,
            self._new_journal(),
            executor=executor,
            jobs=_SIMULATED_WORKERS,
            check_push=False,
        )
        wall, cpu = time.monotonic() - started, time.process_time() - before
        executor.shutdown()
        assert result.status.images.done == image_count
        return {
            "images": image_count,
            "layers": len(large.layers),
            "read_bytes": large.read_size,
            "layer_mb_per_second": costs.layer_rate / 1e6,
            "image_seconds": costs.image_seconds,
            "workers": _SIMULATED_WORKERS,
            "virtual_seconds": executor.seconds,
            "busy_share": executor.busy / executor.seconds / _SIMULATED_WORKERS,
            "driver_seconds": wall,
            "driver_cpu": cpu,
            "share": wall / (wall + executor.seconds),
        }

    def _registry(self) -> tuple[fleet_registry.LoggedRegistry, Path]:
        data = self._folder / "copy"
        fleet_registry.remove(data)
        copied = fleet_registry.copy_of(self._data, data)
        return fleet_registry.LoggedRegistry(self._folder, copied), data

    def _with_registry(
        self, work: Callable[[str], dict[str, Any]]
    ) -> tuple[dict[str, Any], fleet_registry.Served]:
        registry, data = self._registry()
        with registry.running() as host:
            result = work(host)
            served = registry.served(self._layers)
        fleet_registry.remove(data)
        return result, served

    def _new_journal(self) -> Path:
        for path in self._folder.glob("journal*"):
            path.unlink()
        return self._folder / "journal"

    def _child(self, *words: str) -> dict[str, Any]:
        """Run a part in a child process and return the JSON in the last line that it prints."""
        printed = subprocess.check_output([sys.executable, __file__, "--child", *words], text=True)
        found: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return found


def _pushes(served: fleet_registry.Served) -> dict[str, int]:
    return {
        "blobs_pushed": served.blobs_pushed,
        "mounts": served.mounts,
        "indexes": sum(served.indexes.values()),
    }


def _done_layers(plan: Path, journal: Path) -> set[str]:
    from tocsin import fleet  # noqa: PLC0415 (as above)
    from tocsin.fleet.journal import Journal  # noqa: PLC0415

    layers = fleet.Plan.read(plan).layers
    if not journal.exists():
        return set()
    with Journal.open_for_reading(journal) as opened:
        return {str(layers[number].layer.digest) for number in opened.known_layers()}


def _group_size(group: int) -> int:
    """Return the number of processes in a process group."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            found += fields[0] != "Z" and int(fields[2]) == group
    return found


def _rename_host(path: Path, before: str, after: str) -> None:
    from dataclasses import replace  # noqa: PLC0415 (only here)

    from tocsin import fleet  # noqa: PLC0415

    plan = fleet.Plan.read(path)
    images = tuple(
        replace(image, repository=image.repository.replace(before, after)) for image in plan.images
    )
    replace(plan, images=images).write(path)


# What runs in child processes


def _cpu() -> float:
    """Return the CPU seconds of this process and of the children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _options() -> Any:  # noqa: ANN401 (an options object of tocsin)
    import tocsin  # noqa: PLC0415 (measured)

    return tocsin.IndexingOptions(min_layer_size=0, jobs=1, threads=1)


def _registry() -> Any:  # noqa: ANN401 (as above)
    import tocsin  # noqa: PLC0415 (measured)

    return tocsin.RegistryOptions(timeout=_TIMEOUT)


def _create(host: str, *repositories: str) -> None:
    import tocsin  # noqa: PLC0415 (measured)

    started = time.monotonic()
    for repository in repositories:
        tocsin.create(f"{host}/{repository}:1", options=_options(), registry=_registry())
    print(json.dumps({"cpu": _cpu(), "seconds": time.monotonic() - started}))


def _plan(host: str, path: str) -> None:
    from tocsin import fleet  # noqa: PLC0415 (measured)

    fleet.plan(f"{host}/team*", options=_options(), registry=_registry()).write(path)
    print(json.dumps({"cpu": _cpu()}))


def _run(plan: str, journal: str, fault: str = "") -> None:
    from distributed import Client, LocalCluster  # noqa: PLC0415 (measured)

    from tocsin import fleet  # noqa: PLC0415

    lost = []

    def lose_a_worker(event: fleet.FleetAdvanced) -> None:
        if fault == "lose-a-worker" and not lost and event.layers.done >= 5:
            nanny = next(iter(cluster.workers.values()))
            nanny.auto_restart = False  # lost for good
            lost.append(nanny.pid)
            os.kill(nanny.pid, signal.SIGKILL)

    with (
        LocalCluster(
            n_workers=_WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(_warm_up)
        of_workers = sum(client.run(_cpu).values())
        of_driver = _cpu()
        print("ready", flush=True)
        started = time.monotonic()
        result = fleet.run(
            fleet.Plan.read(plan),
            journal,
            executor=client.get_executor(pure=False, retries=0),
            jobs=_WORKERS,
            check_push=fault != "unchecked",
            registry=_registry(),
            progress=lose_a_worker,
        )
        seconds = time.monotonic() - started
        driver = _cpu() - of_driver
        workers = sum(client.run(_cpu).values()) - of_workers
    images = result.status.images
    print(
        json.dumps(
            {
                "cpu": driver + workers,
                "driver_cpu": driver,
                "start_cpu": of_driver + of_workers,
                "seconds": seconds,
                "images": images.to_dict(),
                "traffic": result.status.traffic.to_dict(),
            }
        )
    )


def _warm_up() -> None:
    """Import what tasks need: starting workers is not part of the comparison."""
    import tocsin.fleet  # noqa: PLC0415
    import tocsin.stores.registry  # noqa: F401, PLC0415


_CHILDREN: dict[str, Callable[..., None]] = {"create": _create, "plan": _plan, "run": _run}


def report_text(figures: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = [
        "# Fleets\n",
        f"{figures['images']} images of three layers of {figures['layer_mib']:g} MiB "
        f"(uncompressed), docker-registry over loopback, Dask LocalCluster of {_WORKERS} workers "
        f"with {'its defaults' if figures['dask_defaults'] else 'the settings of docs/fleet.md'}. "
        "Bytes and pushes are those of the registry's access log. CPU is CPU time, so it does not "
        "depend on how busy the machine is, but caches do; load at the start: "
        f"{figures['load'][0]:.1f}.\n",
    ]
    reached: dict[goals.Goal, dict[str, float | None]] = {}
    if "cpu" in figures:
        lines += [
            "| layers shared by | | CPU s | wall s | MB read | blobs pushed | mounts | indexes |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for name, case in figures["cpu"].items():
            for what in ("create", "fleet"):
                row = case[what]
                lines.append(
                    f"| {case['sharing']:.1f} | {what} | {row['cpu']:.1f} | {row['seconds']:.1f} "
                    f"| {row['read'] / 1e6:.1f} | {row['blobs_pushed']} | {row['mounts']} "
                    f"| {row['indexes']} |"
                )
            reached.setdefault(_BYTES, {})[name] = case["bytes_ratio"]
            reached[_CPU[name]] = {name: case["cpu_ratio"]}
        lines += [""] + [
            f"- {case['sharing']:.1f}: {case['unique_layers']} unique layers, "
            f"{case['unique_bytes'] / 1e6:.1f} MB; of the fleet's CPU, the plan "
            f"{case['fleet']['plan_cpu']:.1f} s and the driver with Dask's scheduler "
            f"{case['fleet']['driver_cpu']:.1f} s; starting the cluster took another "
            f"{case['fleet']['start_cpu']:.1f} s"
            for case in figures["cpu"].values()
        ]
    if "bytes" in figures:
        row = figures["bytes"]
        lines.append(
            f"\n{row['read'] / 1e6:.1f} MB read for unique layers of {row['unique'] / 1e6:.1f} MB."
        )
        reached[_BYTES] = {"ten": row["ratio"]}
    if "kills" in figures:
        row = figures["kills"]
        lines.append(
            f"\n{len(row['kills'])} kills of driver, scheduler and workers while layers were read "
            f"(runs started: {row['runs']}): "
            f"{row['images']['done']} images done, {row['read_twice'] / 1e6:.1f} MB read twice, "
            f"{row['in_flight'] / 1e6:.1f} MB in flight at the kills "
            f"({', '.join(str(each['in_flight']) for each in row['kills'])} layers; "
            f"{', '.join(str(each['done']) for each in row['kills'])} done)."
        )
        reached[_TWICE] = {"two": row["excess"]}
        reached[_HIT] = {"two": len(row["kills"])}
    if "faults" in figures:
        row = figures["faults"]
        lines.append(
            f"\nA worker lost for good, and responses {row['statuses']}: {row['images']['done']} "
            f"images done in {row['seconds']:.0f} s, {row['indexed_once']} indexes stored once, "
            f"{row['indexed_twice']} twice, {row['read_twice'] / 1e6:.1f} MB read twice."
        )
        reached[_FAULTS] = {"ten": row["share"]}
    if "simulated" in figures:
        row = figures["simulated"]
        lines.append(
            f"\n{row['images']} images, {row['layers']} layers, {row['read_bytes'] / 1e12:.2f} TB, "
            f"{row['workers']} workers that read {row['layer_mb_per_second']:.0f} MB/s and need "
            f"{row['image_seconds'] * 1000:.0f} ms per image (measured): "
            f"{row['virtual_seconds']:.0f} s of virtual time, workers busy for "
            f"{row['busy_share']:.1%}; driver with its journal {row['driver_seconds']:.1f} s, "
            f"{row['driver_cpu']:.1f} s of CPU. Dask's scheduler is not part of this."
        )
        reached[_SCHEDULER] = {"ten": row["share"]}
    return "\n".join([*lines, "", *goals.table(reached), ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure tocsin fleet.")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--layer-mib", type=float, default=20, help="size of each layer's tar")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--seed", type=int, default=17, help="for the moments of kills")
    parser.add_argument(
        "--dask-defaults", action="store_true", help="do not use the settings of docs/fleet.md"
    )
    parser.add_argument("--busy-seconds", type=float, default=60)
    parser.add_argument("--simulated-images", type=int, default=10_000)
    arguments.add_record(parser)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
