"""Processes of tests as forks of one process, which has imported what takes a new process seconds: notebooks' kernels,
and modules of the library."""

import importlib
import multiprocessing
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from multiprocessing.connection import Connection

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["ipykernel.kernelapp", "torch", "torchvision", "seaborn", "paperlib.claims.experiments",
                                "paperlib.claims.scoreboard", "paperlib.deploy", "paperlib.plots"])


class Fork(context.Process):
    """With what is asked of a subprocess.Popen."""
    stdin = stdout = stderr = None
    returncode = property(lambda self: self.exitcode)

    def poll(self):
        return self.exitcode

    def wait(self, timeout=None):
        self.join(timeout)
        return self.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


def settle(cwd, env):
    """The place and the environment of a new process."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[0:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))


# -- `python -m MODULE` -----------------------------------------------------------------------------------------------
def module(words, cwd, env, *streams):
    settle(cwd, env)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
    sys.argv, subprocess.Popen = words, popen
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    named = importlib.import_module(words[0])
    if hasattr(named, "__path__") and not hasattr(named, "main"):
        named = importlib.import_module(f"{words[0]}.__main__")
    sys.exit(named.main())


class Module(Fork):
    """In place of subprocess.Popen([sys.executable, "-m", MODULE, ...]): `main` of that module or package, with pipes
    for its standard input and output.  The modules that it starts are forks, too."""

    def __init__(self, command, *, cwd=None, env=None, stderr=None, **options):
        (stdin, to_it), (from_it, stdout) = os.pipe(), os.pipe()
        streams = [Connection(end) for end in (stdin, stdout, os.dup(2 if stderr is None else stderr.fileno()))]
        super().__init__(target=module, args=(command[2:], cwd or os.getcwd(), dict(env or os.environ), *streams))
        self.start()
        for stream in streams:
            stream.close()
        self.stdin, self.stdout = open(to_it, "w"), open(from_it)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stdin.close()
        self.stdout.close()
        self.wait()


def popen(command, *args, real=subprocess.Popen, **options):
    """In place of subprocess.Popen: a fork for a module, the real one for anything else."""
    return Module(command, **options) if list(command[1:2]) == ["-m"] else real(command, *args, **options)


# -- kernels ----------------------------------------------------------------------------------------------------------
def kernel(words, cwd, env, silent):
    """What `python -m ipykernel_launcher` does, in a process that is there already."""
    settle(cwd, env)
    for stream in (0, 2) if silent else (0,):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    import matplotlib
    import pandas
    from ipykernel.kernelapp import launch_new_instance

    # what both would have found here if they had been imported here
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    pandas.set_option("display.max_columns", 20)
    launch_new_instance(words)


class Kernel(LocalProvisioner):
    """Starts kernels as forks."""

    async def launch_kernel(self, cmd, *, env, cwd=None, stderr=None, **options):
        self.cwd = cwd or os.getcwd()
        self.process = Fork(target=kernel, args=(cmd[cmd.index("-f"):], self.cwd, env, stderr is not None))
        self.process.start()
        self.pid = self.pgid = self.process.pid
        return self.connection_info


def fork_kernels():
    """From now on in this process."""
    factory = KernelProvisionerFactory.instance()
    factory.provisioners["forked"] = EntryPoint("forked", "forks:Kernel", factory.GROUP_NAME)
    factory.default_provisioner_name = "forked"
