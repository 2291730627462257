"""A SLURM of one node on this machine, for one test: munged, slurmctld and slurmd, all of it in one folder.

No systemd, no cgroups, no accounting, no root: the daemons belong to whoever runs the test, listen on free ports, and
keep configuration, state and logs in the folder. Each is started in the foreground and is a child of the test, and
what a job leaves behind is found by the folder in its environment, so that nothing is left when the cluster stops.
"""

import contextlib
import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo", "setpriv")
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
CONFIGURATION = """\
ClusterName=one-node
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=5
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=60 DefMemPerCPU=500 State=UP
"""


def missing() -> list[str]:
    """The programs that this needs and the machine does not have."""
    return [name for name in PROGRAMS if shutil.which(name, path=PLACES) is None]


def wait_for(what: str, test: Callable[[], object], seconds: float, every: float = 0.2) -> object:
    """The first true value of `test`. Raises TimeoutError that names `what`."""
    end = time.monotonic() + seconds
    while not (found := test()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} seconds")
        time.sleep(every)
    return found


class Cluster:
    """The daemons, which run from `with` to its end. environment: what commands need to speak to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}  # of another one
        places = f"{folder}/bin{os.pathsep}{PLACES}"
        self.environment = outside | {"PATH": places, "SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Cluster":
        self._configure()
        try:
            self._start("munged", "--foreground", f"--socket={self.folder}/munge.socket", *self._munge_files())
            wait_for("munged", (self.folder / "munge.socket").exists, 20)
            self._start("slurmctld", "-D", "-i")
            self.start_node()
        except BaseException as error:
            said = self.logs()
            self.stop()
            raise RuntimeError(f"SLURM did not start. Its logs:\n{said}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_node(self) -> None:
        """Start the node's daemon, and wait until the controller gives it work."""
        self._start("slurmd", "-D")
        wait_for("an idle node", lambda: re.match(r"(idle|mix|alloc)\w*$", self.ask("sinfo", "-h", "-o", "%T")), 60)

    def kill_node(self) -> None:
        """The node loses its power: slurmd and all that it has started are gone at once."""
        self.daemons["slurmd"].kill()
        self.daemons.pop("slurmd").wait()
        self._kill_jobs()

    def stop(self) -> None:
        """End all daemons and jobs, whatever state they are in."""
        self._kill_jobs()
        for name in ("slurmd", "slurmctld", "munged"):
            if daemon := self.daemons.pop(name, None):
                daemon.terminate()
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
        self._kill_jobs()  # what slurmd started in between

    def ask(self, *command: str) -> str:
        """What a command of SLURM says, stripped; empty where it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30)
        return done.stdout.strip() if done.returncode == 0 else ""

    def jobs(self, state: str) -> list[str]:
        """Numbers of the jobs in a state, such as RUNNING; in any with "all"."""
        return self.ask("squeue", "-h", "-t", state, "-o", "%i").split()

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        ends = [(path.name, path.read_text(errors="replace")[-3000:]) for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(f"--- {name}\n{end}" for name, end in ends)

    def processes(self) -> list[psutil.Process]:
        """What slurmd has started: first slurmstepd, which has its log open, then jobs, which have its environment."""
        steps, jobs = [], []
        for process in psutil.process_iter():
            try:
                if process.name() == "slurmstepd":
                    if any(Path(file.path).parent == self.folder for file in process.open_files()):
                        steps.append(process)
                elif process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                    if "SLURM_JOB_ID" in process.environ():
                        jobs.append(process)
            except psutil.Error:  # gone, or of another user
                continue
        return steps + jobs

    def _kill_jobs(self) -> None:
        while alive := self.processes():
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(alive, timeout=1)

    def _configure(self) -> None:
        for name in ("bin", "state", "spool"):
            (self.folder / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        values = {"folder": self.folder, "host": host, "user": getpass.getuser(), "ports": free_ports(2)}
        memory = psutil.virtual_memory().total // 2**20
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(memory=memory, **values))
        # Snakemake takes SLURM_CONF from the environment of its steps, as clusters have their file in /etc
        srun, program = self.folder / "bin" / "srun", shutil.which("srun", path=PLACES)
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {program} "$@"\n')
        srun.chmod(0o755)
        # versions before 23.02 do not know the word, and look for cgroups only where a plugin asks for them
        version = re.search(r"(\d+)\.(\d+)", self.ask("scontrol", "--version"))
        if version and (int(version[1]), int(version[2])) >= (23, 2):
            (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")

    def _munge_files(self) -> list[str]:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        files = {"key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        # --force: a temporary folder that only its owner can enter is a warning
        return ["--force", *(f"--{option}={self.folder}/munge.{end}" for option, end in files.items())]

    def _start(self, name: str, *options: str) -> None:
        program = shutil.which(name, path=PLACES)
        last = ["setpriv", "--pdeathsig", "KILL"]  # should this process be killed, its daemons are as well
        with (self.folder / f"{name}.said.log").open("a") as said:
            self.daemons[name] = subprocess.Popen(
                [*last, program, *options], env=self.environment, cwd=self.folder, stdout=said, stderr=said
            )


def free_ports(count: int) -> list[int]:
    """Different ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
