"""The files a lint looks at: a mapping from path (relative to the root, with slashes) to text. A lint is a module with
faults(tree) -> list of "path:line: text", and MADE_UP: small trees, each with one fault that must be found, so that no
lint can go blind unnoticed."""
import os

SKIPPED_FOLDERS = {'.git', '__pycache__', 'flotilla-data', 'corpus', '.pytest_cache'}


def read(root):
    tree = {}
    for folder, folders, names in os.walk(root):
        at_root = os.path.samefile(folder, root)
        folders[:] = sorted(f for f in folders
                            if f not in SKIPPED_FOLDERS and not (at_root and (f == 'build' or f.startswith('build-'))))
        for name in sorted(names):
            path = os.path.join(folder, name)
            with open(path, 'rb') as file:
                data = file.read()
            if b'\0' not in data:
                tree[os.path.relpath(path, root)] = data.decode('utf-8', 'replace')
    return tree


def lines(tree, suffixes):
    """(path, number, line) of every line of the files with one of these suffixes."""
    for path, text in tree.items():
        if path.endswith(suffixes):
            for number, line in enumerate(text.splitlines(), 1):
                yield path, number, line
