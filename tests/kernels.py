"""Kernels of notebooks under test: forks of one process that has imported what takes notebooks seconds to import."""

import multiprocessing
import os
import sys
from importlib.metadata import EntryPoint

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["ipykernel.kernelapp", "torch", "seaborn", "paperlib.claims.experiments",
                                "paperlib.claims.scoreboard", "paperlib.deploy", "paperlib.plots"])


def kernel(words, cwd, env, silent):
    """What `python -m ipykernel_launcher` does, in a process that is there already."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[0:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    for stream in (0, 2) if silent else (0,):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    import matplotlib
    import pandas
    from ipykernel.kernelapp import launch_new_instance

    # what both would have found here if they had been imported here
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    pandas.set_option("display.max_columns", 20)
    launch_new_instance(words)


class Fork(context.Process):
    """With what jupyter_client asks of a subprocess.Popen."""
    stdin = stdout = stderr = None

    def poll(self):
        return self.exitcode

    def wait(self):
        self.join()
        return self.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


class Forked(LocalProvisioner):
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
    factory.provisioners["forked"] = EntryPoint("forked", "kernels:Forked", factory.GROUP_NAME)
    factory.default_provisioner_name = "forked"
