"""A recursive-descent parser of the SQL subset. A tree is a tuple whose first item names the node."""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    | (?P<operator><>|!=|<=|>=|\|\||::|[=<>+\-*/%(),])
    )""",
    re.VERBOSE,
)
COMPARISONS = {"=", "<>", "!=", "<", "<=", ">", ">="}
AGGREGATES = {"count", "sum", "min", "max", "avg", "approx_distinct", "approx_percentile", "late_rows"}
LITERAL_WORDS = {"true": (True, "boolean"), "false": (False, "boolean"), "null": (None, "null")}


class SyntaxFault(ValueError):
    """The text is not of the subset."""


def parse_expression(text: str) -> tuple:
    """The tree of one expression, or of one aggregate call."""
    parser = Parser(text)
    tree = parser.disjunction()
    parser.expect_end()
    return tree


def tokens_of(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise SyntaxFault(f"unexpected {text[at : at + 10]!r} in {text!r}")
        kind = match.lastgroup
        tokens.append((kind, match.group(kind)))
        at = match.end()
    return tokens


class Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at = text, tokens_of(text), 0

    # -- tokens ----------------------------------------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else ("end", "")

    def is_word(self, *words: str, ahead: int = 0) -> bool:
        kind, text = self.peek(ahead)
        return kind == "word" and text.lower() in words

    def is_operator(self, *operators: str) -> bool:
        kind, text = self.peek()
        return kind == "operator" and text in operators

    def advance(self) -> str:
        text = self.peek()[1]
        self.at += 1
        return text

    def accept(self, text: str) -> bool:
        found = self.is_operator(text) or self.is_word(text)
        if found:
            self.at += 1
        return found

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise SyntaxFault(f"expected {text!r} before {self.peek()[1]!r} in {self.text!r}")

    def expect_end(self) -> None:
        if self.peek()[0] != "end":
            raise SyntaxFault(f"unexpected {self.peek()[1]!r} in {self.text!r}")

    # -- precedence, loosest first -----------------------------------------------------------------------------------

    def disjunction(self) -> tuple:
        tree = self.conjunction()
        while self.accept("or"):
            tree = ("or", tree, self.conjunction())
        return tree

    def conjunction(self) -> tuple:
        tree = self.negation()
        while self.accept("and"):
            tree = ("and", tree, self.negation())
        return tree

    def negation(self) -> tuple:
        return ("not", self.negation()) if self.accept("not") else self.test()

    def test(self) -> tuple:
        tree = self.comparison()
        while self.accept("is"):
            negated = self.accept("not")
            kind = self.advance().lower()
            if kind not in ("null", "true", "false", "unknown"):
                raise SyntaxFault(f"unexpected {kind!r} after is in {self.text!r}")
            tree = ("is", tree, kind, negated)
        return tree

    def comparison(self) -> tuple:
        """Not associative: `a < b < c` is no expression."""
        tree = self.membership()
        if self.is_operator(*COMPARISONS):
            operator = self.advance().replace("!=", "<>")
            tree = ("compare", operator, tree, self.membership())
        return tree

    def membership(self) -> tuple:
        tree = self.sum()
        while True:
            negated = self.is_word("not") and self.is_word("in", "between", "like", "ilike", ahead=1)
            if negated:
                self.at += 1
            if self.accept("in"):
                tree = ("in", tree, self.arguments(), negated)
            elif self.accept("between"):
                low = self.sum()
                self.expect("and")
                tree = ("between", tree, low, self.sum(), negated)
            elif self.is_word("like", "ilike"):
                insensitive = self.advance().lower() == "ilike"
                tree = ("like", tree, self.sum(), insensitive, negated)
            else:
                return tree

    def sum(self) -> tuple:
        """`||` binds less than `+ -`."""
        tree = self.addition()
        while self.accept("||"):
            tree = ("concat", tree, self.addition())
        return tree

    def addition(self) -> tuple:
        tree = self.product()
        while self.is_operator("+", "-"):
            tree = ("arithmetic", self.advance(), tree, self.product())
        return tree

    def product(self) -> tuple:
        tree = self.sign()
        while self.is_operator("*", "/", "%"):
            tree = ("arithmetic", self.advance(), tree, self.sign())
        return tree

    def sign(self) -> tuple:
        if self.accept("-"):
            return ("negate", self.sign())
        return self.sign() if self.accept("+") else self.casted()

    def casted(self) -> tuple:
        tree = self.primary()
        while self.accept("::"):
            tree = ("cast", tree, self.type_name())
        return tree

    # -- leaves ------------------------------------------------------------------------------------------------------

    def primary(self) -> tuple:
        kind, text = self.peek()
        if kind == "number":
            self.at += 1
            return ("literal", int(text), "bigint") if text.isdigit() else ("literal", float(text), "double")
        if kind == "string":
            self.at += 1
            return ("literal", text[1:-1].replace("''", "'"), "unknown")
        if kind == "quoted":
            self.at += 1
            return ("column", text[1:-1].replace('""', '"'))
        if self.accept("("):
            tree = self.disjunction()
            self.expect(")")
            return tree
        if kind == "word":
            return self.word()
        raise SyntaxFault(f"unexpected {text!r} in {self.text!r}")

    def word(self) -> tuple:
        name = self.advance()
        lower = name.lower()
        if lower in LITERAL_WORDS:
            return ("literal", *LITERAL_WORDS[lower])
        if lower == "case":
            return self.case()
        if lower in ("timestamp", "timestamptz", "date") and self.peek()[0] == "string":
            return ("cast", self.primary(), lower)
        if not self.is_operator("("):
            return ("column", lower)
        if lower == "cast":
            return self.cast()
        if lower == "extract":
            return self.extract()
        if lower in AGGREGATES:
            return self.aggregate(lower)
        return ("call", lower, self.arguments())

    def arguments(self) -> list[tuple]:
        self.expect("(")
        found = []
        while not self.accept(")"):
            if found:
                self.expect(",")
            found.append(self.disjunction())
        return found

    def cast(self) -> tuple:
        self.expect("(")
        tree = self.disjunction()
        self.expect("as")
        type_name = self.type_name()
        self.expect(")")
        return ("cast", tree, type_name)

    def type_name(self) -> str:
        name = self.advance().lower()
        if name == "double" and self.accept("precision"):
            return "double"
        return name

    def extract(self) -> tuple:
        self.expect("(")
        field = self.advance().lower().strip("'")
        self.expect("from")
        tree = self.disjunction()
        self.expect(")")
        return ("extract", field, tree)

    def case(self) -> tuple:
        operand = None if self.is_word("when") else self.disjunction()
        branches, otherwise = [], ("literal", None, "null")
        while self.accept("when"):
            condition = self.disjunction()
            self.expect("then")
            branches.append((condition, self.disjunction()))
        if self.accept("else"):
            otherwise = self.disjunction()
        self.expect("end")
        return ("case", operand, branches, otherwise)

    def aggregate(self, name: str) -> tuple:
        """("aggregate", name, distinct, arguments, filter); `count(*)` has no arguments."""
        self.expect("(")
        distinct = self.accept("distinct")
        arguments = []
        if self.accept("*"):
            self.expect(")")
        else:
            while not self.accept(")"):
                if arguments:
                    self.expect(",")
                arguments.append(self.disjunction())
        condition = None
        if self.accept("filter"):
            self.expect("(")
            self.expect("where")
            condition = self.disjunction()
            self.expect(")")
        return ("aggregate", name, distinct, arguments, condition)
