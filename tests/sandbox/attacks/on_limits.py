"""Every limit, by every way round it that we know, and floods of output."""

# A short script is easier to read on one line.
# ruff: noqa: E501
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.types import Limits, SandboxResult
from tests.sandbox.attacks.attack import Judge, Suite
from tests.sandbox.attacks.ground import Ground

SUITE = Suite()
MIB = 1024**2
SMALL = Limits(
    wall_seconds=8.0, cpu_seconds=6.0, memory_bytes=256 * MIB, processes=24, open_files=64, file_bytes=8 * MIB,
    disk_bytes=32 * MIB, output_bytes=16 * 1024,
)  # fmt: skip


def named(*names: str, within: Callable[[SandboxResult], str | None] = lambda _result: None) -> Judge:
    """The run was ended by one of these limits, and used no more than a little over it."""

    def judge(_ground: Ground, result: SandboxResult) -> str | None:
        if result.killed_by not in names:
            return f"ended by {result.killed_by}, exit code {result.exit_code}: {result.stderr[-300:]!r}"
        return within(result)

    return judge


def memory_within(limit: int) -> Callable[[SandboxResult], str | None]:
    """The peak that was seen is at most twice the limit: what one look of 20 ms lets through."""
    return lambda result: (
        f"peak of {result.usage.peak_memory_bytes >> 20} MiB" if result.usage.peak_memory_bytes > 2 * limit else None
    )


def add(name: str, body: str, judge: Judge, limits: Limits = SMALL, *, ends: bool = False) -> None:
    """One attack on a limit; most are ended by it."""
    SUITE.add(name, body, judge, limits=limits, must_end_well=ends)


def held_inside(_ground: Ground, result: SandboxResult) -> str | None:
    """The limit is an error inside, and the script lives to report it."""
    return None if result.killed_by is None and result.exit_code == 0 else f"ended by {result.killed_by}"


add("sleep for ever", "time.sleep(60)", named("wall_seconds"), replace(SMALL, wall_seconds=0.3))
add("ignore every signal and sleep",
    """
    for number in range(1, 64):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    while True: time.sleep(60)
    """, named("wall_seconds"), replace(SMALL, wall_seconds=0.3))  # fmt: skip
add(
    "wait for a child that sleeps",
    "subprocess.run(['sleep', '60'])",
    named("wall_seconds"),
    replace(SMALL, wall_seconds=0.3),
)
add("spin", "while True: pass", named("cpu_seconds"), replace(SMALL, cpu_seconds=0.4))
add("spin and ignore the warning",
    "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", named("cpu_seconds"), replace(SMALL, cpu_seconds=0.4))  # fmt: skip
add("spin in many processes",
    """
    for _ in range(7):
        if os.fork() == 0: break
    while True: pass
    """, named("cpu_seconds"), replace(SMALL, cpu_seconds=0.4))  # fmt: skip
add("spin in short-lived children that nobody waits for",
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if os.fork() == 0:
            end = time.process_time() + 0.15
            while time.process_time() < end: pass
            os._exit(0)
        time.sleep(0.08)
    """, named("cpu_seconds"), replace(SMALL, cpu_seconds=0.4))  # fmt: skip

add(
    "fill memory",
    "b = []\nwhile True: b.append(b'x' * 16_000_000)",
    named("memory_bytes", within=memory_within(256 * MIB)),
)
add("fill memory at once", "b = b'x' * 2_000_000_000; time.sleep(1)", named("memory_bytes"))
add("fill memory in many processes",
    """
    for _ in range(7):
        if os.fork() == 0: break
    data = [b'x' * 1_000_000 for _ in range(60)]
    time.sleep(60)
    """, named("memory_bytes", within=memory_within(256 * MIB)))  # fmt: skip
add(
    "fill shared memory without a name",
    "m = mmap.mmap(-1, 2_000_000_000)\nfor at in range(0, 2_000_000_000, 4096): m[at] = 1",
    named("memory_bytes"),
)
add("hide memory by a change of mode",
    """
    libc.prctl(4, 0, 0, 0, 0)
    b = []
    while True: b.append(b'x' * 16_000_000)
    """, named("memory_bytes"))  # fmt: skip
add("memory that forks share counts once",
    """
    data = b'x' * 100_000_000
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            time.sleep(0.3)
            os._exit(0)
        children.append(pid)
    [os.waitpid(pid, 0) for pid in children]
    """, held_inside, ends=True)  # fmt: skip
add("fill a temporary folder",
    """
    import tempfile
    folder = tempfile.mkdtemp()
    for number in range(1000):
        with open(f'{folder}/{number}', 'wb') as file: file.write(bytes(4_000_000))
    """, named("disk_bytes"))  # fmt: skip
add("fill shared memory files",
    """
    for number in range(1000):
        with open(f'/dev/shm/{number}', 'wb') as file: file.write(bytes(4_000_000))
    breach('shared memory took it all')
    """,
    lambda ground, result: None if result.killed_by == "disk_bytes" or b"stopped: PermissionError" in result.stdout else f"ended by {result.killed_by}")  # fmt: skip

add("fork without end",
    """
    while True:
        try: os.fork()
        except OSError: time.sleep(0.001)
    """, named("processes"))  # fmt: skip
add("fork and leave",
    """
    while True:
        try:
            if os.fork(): os._exit(0)
            os.setsid()
        except OSError: pass
    """, lambda ground, result: None)  # fmt: skip
add("start threads without end",
    """
    while True:
        try: threading.Thread(target=time.sleep, args=(60,)).start()
        except RuntimeError: time.sleep(0.001)
    """, named("processes"))  # fmt: skip
add("open files without end",
    """
    files = []
    try:
        while True: files.append(open('/dev/null'))
    except OSError as error:
        print('stopped:', error, len(files)) if error.errno == errno.EMFILE else breach(error)
    if len(files) > 64: breach(f'{len(files)} files')
    """, held_inside, ends=True)  # fmt: skip
add("write a large file",
    "with open('large', 'wb') as file:\n    while True: file.write(bytes(1_000_000))",
    lambda ground, result: named("file_bytes")(ground, result) or large(ground, "large"))  # fmt: skip
add("write a large file through a hole", "os.truncate(os.open('large', os.O_CREAT | os.O_RDWR), 1 << 40)",
    lambda ground, result: large(ground, "large"))  # fmt: skip
add("write a large file by allocation", "os.posix_fallocate(os.open('large', os.O_CREAT | os.O_RDWR), 0, 64_000_000)",
    lambda ground, result: large(ground, "large"))  # fmt: skip
add("write a large file by a program", "subprocess.run(['dd', 'if=/dev/zero', 'of=large', 'bs=1M', 'count=64'], capture_output=True)",
    lambda ground, result: large(ground, "large"))  # fmt: skip
add("allocate many files at once and live on",
    """
    for number in range(8): os.posix_fallocate(os.open(str(number), os.O_CREAT | os.O_RDWR), 0, 7_000_000)
    time.sleep(5)
    """, named("disk_bytes"))  # fmt: skip
add("write many files",
    """
    for number in range(1000):
        with open(str(number), 'wb') as file: file.write(bytes(4_000_000))
    """, named("disk_bytes"))  # fmt: skip
add("write files that have no name",
    """
    files = []
    for number in range(40):
        files.append(open('gone', 'wb')); os.unlink('gone')
        files[-1].write(os.urandom(1_000_000) * 4); files[-1].flush()
    time.sleep(5)
    """, named("disk_bytes"))  # fmt: skip
add("write many files too deep to be named",
    """
    import tempfile
    for top in ('.', tempfile.mkdtemp()):
        os.chdir(top)
        for _ in range(60):
            os.mkdir('d' * 200); os.chdir('d' * 200)
        if top == '.':
            here = os.open('.', os.O_RDONLY)
    os.fchdir(here)
    for number in range(1000):
        with open(str(number), 'wb') as file: file.write(bytes(4_000_000))
    """, named("disk_bytes"))  # fmt: skip
add("write many files in folders that are shut",
    """
    for number in range(1000):
        os.mkdir(str(number))
        with open(f'{number}/file', 'wb') as file: file.write(bytes(4_000_000))
        os.chmod(str(number), 0)
    """, named("disk_bytes"))  # fmt: skip
add("make files without end",
    """
    os.mkdir('many')
    for number in range(10_000_000): os.close(os.open(f'many/{number}', os.O_CREAT))
    """, named("disk_bytes"), replace(SMALL, disk_bytes=8 * MIB, wall_seconds=20.0, cpu_seconds=20.0))  # fmt: skip


def large(ground: Ground, name: str) -> str | None:
    """Whether a file outgrew the limit of one file."""
    path = ground.workspace / name
    size = path.stat().st_size if path.exists() else 0
    return f"the file has {size} bytes" if size > SMALL.file_bytes else None


def bounded(_ground: Ground, result: SandboxResult) -> str | None:
    """What came back is bounded and says that it was cut."""
    if max(len(result.stdout), len(result.stderr)) > SMALL.output_bytes:
        return f"{len(result.stdout)} and {len(result.stderr)} bytes came back"
    return None if result.truncated else "it does not say that it was cut"


add("print too much", "print('x' * 100_000)", bounded, ends=True)
add("write too much on the other stream", "sys.stderr.write('x' * 100_000)", bounded, ends=True)
add("print without end", "while True: os.write(1, b'x' * 65536)",
    lambda ground, result: named("output_bytes")(ground, result) or bounded(ground, result))  # fmt: skip
add("print without end from a program", "subprocess.run(['yes'])", named("output_bytes"))
