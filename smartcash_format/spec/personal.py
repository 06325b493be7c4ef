"""What a stranger need not know: paths, people, machines, environments and secrets in metadata.

The format's own fields hold none (FORMAT.md F-1.9); config, notes, tags and names are the user's.
The rules below know shapes and common keys. They find what is usual and cannot find everything: who
shares a checkpoint still reads what it says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from smartcash_format.spec import limits
from smartcash_format.spec.meta import Meta

Kind = Literal["path", "name", "environment", "command line", "secret"]

# Longer texts are shown cut: a finding is one line of a table.
SHOWN_CHARACTERS: Final = 120
# Of a secret only enough to recognise it.
SECRET_CHARACTERS: Final = 4
# A user or host that is called so says nothing about anybody.
COMMON_NAMES: Final = frozenset(
    {"root", "user", "admin", "runner", "ubuntu", "debian", "localhost", "jovyan", "colab", "node"}
)
# A shorter name would be found inside everything.
_NAME_CHARACTERS: Final = 4

_COMMANDS: Final = frozenset(
    {"argv", "sysargv", "cmd", "command", "cmdline", "commandline", "launchcommand", "launchcmd"}
)
_NAMES: Final = frozenset(
    {"user", "username", "login", "owner", "email", "host", "hostname", "nodename", "machine"}
)
_SECRETS: Final = frozenset({"token", "secrets", "credentials"})
# How longer ones end, as `wandb_api_key`. Not `token`: `pad_token` is of a tokenizer.
_SECRET_ENDS: Final = (
    "password", "passwd", "passphrase", "secret", "secretkey", "privatekey", "sshkey",
    *(f"{of}{kind}" for of in ("access", "auth", "api", "hf", "wandb", "github", "bearer")
      for kind in ("token", "key")),
)  # fmt: skip
_VARIABLES: Final = frozenset(
    {"HOME", "USER", "LOGNAME", "USERNAME", "HOSTNAME", "PATH", "PWD", "OLDPWD", "SHELL", "MAIL"}
    | {"PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR"}
)
_VARIABLE: Final = re.compile(
    r"(?:SLURM|WANDB|AWS|GOOGLE|AZURE|CONDA|HF|CUDA|NCCL|XDG|SSH|DBUS|LC|JUPYTER|GITHUB|CI)_[A-Z0-9_]+"
)
_ENVIRONMENTS: Final = frozenset({"env", "environ", "osenviron", "environment", "envvars"})

# No pattern tries many starts or many lengths of the same text: values may have half a megabyte.
_SECRET: Final = re.compile(
    r"(?<!\w)(?:hf_|sk-|gh[oprsu]_|github_pat_|glpat-|npm_|pypi-|xox[abeprs]-)[\w-]{16,200}"
    r"|(?<!\w)AKIA[0-9A-Z]{16}(?!\w)|(?<!\w)AIza[\w-]{35}(?![\w-])"
    r"|(?<![\w-])eyJ[\w-]{10,500}\.eyJ[\w-]{2,2000}\.[\w-]{10,1000}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    r"|(?<=://)[^\s/@:]{1,100}:[^\s/@]{1,200}(?=@)"
)
_COMMAND: Final = re.compile(
    r"\s*(?:[A-Z_][A-Z0-9_]{0,100}=\S{0,200}\s+){0,8}(?:\S{0,200}/)?"
    r"(?:python[0-9.]*|torchrun|accelerate|deepspeed|mpirun|srun|sbatch|uv|nohup|sudo|bash)\s+\S"
)
_WHOLE_PATH: Final = re.compile(r"(?:file://)?(?:~[\w.-]{0,64})?/[\w@.+~-]|[A-Za-z]:[\\/]|\\\\\w")
_PATH: Final = re.compile(
    r"(?<![\w/.~\\})\]>*-])(?:file://)?(?:~[\w.-]{0,64})?/[\w@.+~-][^\s\"'<>|:;,*?]*"
    r"|(?<!\w)[A-Za-z]:[\\/][^\s\"'<>|*?]*|(?<!\\)\\\\\w[^\s\"'<>|*?]*"
)
_ADDRESS: Final = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z][\w-]{0,63}(?:\.[\w-]{1,63}){0,5}\.[A-Za-z]{2,24}(?!\w)"
    r"|(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.])"
    # Of IPv6 those that machines bear: link-local, private and global, short or in full.
    r"|(?<![\w:])(?:fe80|f[cd][0-9a-f]{2}|[23][0-9a-f]{3})"
    r"(?:(?::[0-9a-f]{1,4}){0,6}::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,5})?|(?::[0-9a-f]{1,4}){7})(?![\w:])"
)
_LETTERS: Final = re.compile(r"[^a-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One text that tells more than the model: where it stands, what it is, and how it reads."""

    where: str
    kind: Kind
    text: str


def curate(meta: Meta, names: Collection[str] = ()) -> tuple[Meta, tuple[Finding, ...]]:
    """The document without what a stranger need not know, and what that was.

    `names` are users and hosts that are looked for beside what the shapes of texts tell. Of each
    text only the part goes that tells; where it stood `<path>` or the like stands.
    """
    search = _Search(names)
    changed = {
        field: search.clean(getattr(meta, field), field)
        for field in ("config", "notes", "metrics", "tags", "backbone", "dataset")
    }
    # What stands where something stood may be longer than it.
    for field in ("backbone", "dataset"):
        changed[field] = changed[field] and changed[field][: limits.SHORT_TEXT]
    changed["tags"] = list(dict.fromkeys(tag[: limits.SHORT_TEXT] for tag in changed["tags"]))
    return meta.model_copy(update=changed), tuple(search.findings)


def find(value: object, where: str, names: Collection[str] = ()) -> tuple[Finding, ...]:
    """What a value says that a stranger need not know."""
    search = _Search(names)
    search.clean(value, where)
    return tuple(search.findings)


class _Search:
    def __init__(self, names: Collection[str]) -> None:
        self.findings: list[Finding] = []
        told = sorted({n for n in names if len(n) >= _NAME_CHARACTERS} - COMMON_NAMES)
        pattern = "|".join(map(re.escape, told))
        self._names = re.compile(f"(?<![^\\W_])(?:{pattern})(?![^\\W_])", re.I) if told else None

    def clean(self, value: Any, where: str) -> Any:
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, Mapping):
            return self._mapping(value, where)
        if isinstance(value, list | tuple):
            return [self.clean(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return value

    def _mapping(self, value: Mapping[Any, Any], where: str) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, item in value.items():
            inside = f"{where}.{key}"
            name = self._text(str(key), f"{inside} (its name)")
            number = 2
            while name in cleaned:
                name, number = f"{name.partition(' #')[0]} #{number}", number + 1
            kind = _kind_of(str(key), item)
            if kind is None:
                cleaned[name] = self.clean(item, inside)
            else:
                self._found(inside, kind, item if isinstance(item, str) else repr(item))
                cleaned[name] = f"<{kind}>"
        return cleaned

    def _text(self, text: str, where: str) -> str:
        if _COMMAND.match(text) and any(each in text for each in (" -", ".py", ".sh")):
            return self._found(where, "command line", text)
        text = self._replaced(_SECRET, text, where, "secret")
        if _WHOLE_PATH.match(text) and "\n" not in text:
            return self._found(where, "path", text)
        text = self._replaced(_PATH, text, where, "path")
        text = self._replaced(_ADDRESS, text, where, "name")
        return text if self._names is None else self._replaced(self._names, text, where, "name")

    def _replaced(self, pattern: re.Pattern[str], text: str, where: str, kind: Kind) -> str:
        return pattern.sub(lambda match: self._found(where, kind, match[0]), text)

    def _found(self, where: str, kind: Kind, text: str) -> str:
        most = SECRET_CHARACTERS if kind == "secret" else SHOWN_CHARACTERS
        shown = text if len(text) <= most else f"{text[:most]}…"
        self.findings.append(Finding(where=where, kind=kind, text=shown))
        return f"<{kind}>"


def _kind_of(key: str, value: object) -> Kind | None:
    """What the name of a value says about the whole of it."""
    word = _LETTERS.sub("", key.lower())
    if type(value) is int and word.endswith(("password", "passwd")):
        return "secret"
    if not isinstance(value, str | list | Mapping) or not value:
        return None
    if key in _VARIABLES or _VARIABLE.fullmatch(key):
        return "environment"
    if word in _SECRETS or word.endswith(_SECRET_ENDS):
        return "secret"
    if isinstance(value, Mapping):
        is_environment = word in _ENVIRONMENTS and any(str(name).isupper() for name in value)
        return "environment" if is_environment else None
    if word in _COMMANDS:
        return "command line"
    return "name" if isinstance(value, str) and word in _NAMES else None
