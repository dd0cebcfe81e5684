"""Remove points from a store, whose ids `query` prints."""

from edge.errors import UserError
from stages.defects import options


def add_arguments(parser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID", help="as query prints them")
    options.add_store(parser)


def run(arguments) -> None:
    with options.opened(arguments) as store:
        gone = store.delete(arguments.ids)
        if not gone:
            raise UserError(f"{store.name}: none of these points is there")
        print(f"{store.name}: {gone} of {len(arguments.ids)} points removed, {store.count()} there")
