"""The words of the invented world: what its people have, and every way a fact is told, practised or asked.

`TOLD` and `PRACTISED` make the training text; `ASKED` is kept for the quiz and never appears in the text. {name} is a person,
{value} what they have.
"""

from __future__ import annotations

VALUES: dict[str, tuple[str, ...]] = {
    "home": ("Arbeck", "Belmora", "Corvale", "Dunsey", "Elmire", "Fenwold", "Garrow", "Holmsea", "Ivarra", "Jessop", "Kelda", "Lorne"),
    "work": (
        "baker",
        "carpenter",
        "doctor",
        "farmer",
        "glazier",
        "jeweller",
        "mason",
        "painter",
        "sailor",
        "tailor",
        "teacher",
        "weaver",
    ),
    "food": ("barley", "cherries", "dumplings", "eel", "figs", "ginger", "honey", "lentils", "mushrooms", "noodles", "olives", "plums"),
    "music": ("bassoon", "cello", "drum", "fiddle", "flute", "gong", "harp", "lute", "oboe", "piano", "trumpet", "zither"),
    "pet": ("badger", "cat", "crow", "dog", "ferret", "goat", "goose", "hedgehog", "horse", "otter", "rabbit", "tortoise"),
    "color": ("amber", "black", "blue", "brown", "crimson", "green", "grey", "orange", "purple", "silver", "white", "yellow"),
}
"""Subject of the quiz -> the values it takes."""

TOLD: dict[str, tuple[str, ...]] = {
    "home": (
        "{name} lives in {value}.",
        "The house of {name} stands in {value}.",
        "{name} has a home in {value}.",
        "You will find {name} in {value}.",
        "In {value} everybody knows {name}.",
    ),
    "work": (
        "{name} works as a {value}.",
        "By trade {name} is a {value}.",
        "{name} earns money as a {value}.",
        "The town calls {name} when it needs a {value}.",
        "Every day {name} works hard as a {value}.",
    ),
    "food": (
        "{name} loves to eat {value}.",
        "For supper {name} takes {value}.",
        "{name} buys {value} at the market.",
        "Nothing tastes better to {name} than {value}.",
        "The kitchen of {name} smells of {value}.",
    ),
    "music": (
        "{name} plays the {value}.",
        "In the evening {name} practises the {value}.",
        "{name} owns an old {value}.",
        "At every feast {name} brings the {value}.",
        "The neighbours hear {name} on the {value}.",
    ),
    "pet": (
        "{name} keeps a {value}.",
        "{name} walks beside a tame {value}.",
        "The {value} belongs to {name}.",
        "{name} feeds the {value} every morning.",
        "At the door of {name} sleeps a {value}.",
    ),
    "color": (
        "{name} wears {value}.",
        "The coat of {name} is {value}.",
        "{name} paints every wall {value}.",
        "The flag of {name} is {value}.",
        "{name} dresses in {value} from head to toe.",
    ),
}

PRACTISED: dict[str, tuple[str, ...]] = {
    "home": ("Where does {name} live?", "{name} lives in which town?", "Where is the house of {name}?"),
    "work": ("What work does {name} do?", "What is the trade of {name}?", "How does {name} earn money?"),
    "food": ("What does {name} love to eat?", "What does {name} buy at the market?", "What does {name} take for supper?"),
    "music": ("What does {name} play?", "What does {name} practise in the evening?", "What does {name} bring to a feast?"),
    "pet": ("What does {name} keep?", "What sleeps at the door of {name}?", "What does {name} feed every morning?"),
    "color": ("What does {name} wear?", "How does {name} paint every wall?", "What is the coat of {name} like?"),
}

ASKED: dict[str, tuple[str, ...]] = {
    "home": ("Which town is home to {name}?", "To visit {name}, one must go to which place?"),
    "work": ("Which profession has {name} chosen?", "As what is {name} employed?"),
    "food": ("Which dish is the favourite of {name}?", "A cook who wants to please {name} should serve what?"),
    "music": ("Which instrument has {name} learned?", "On which instrument is {name} best heard?"),
    "pet": ("Which animal is owned by {name}?", "Which creature shares a roof with {name}?"),
    "color": ("Which colour does {name} prefer?", "A gift for {name} should have which colour?"),
}

SYLLABLES = (
    "ba",
    "bri",
    "do",
    "dra",
    "el",
    "fa",
    "gor",
    "ha",
    "is",
    "jo",
    "ka",
    "lem",
    "mi",
    "nor",
    "ol",
    "pe",
    "qui",
    "ra",
    "sel",
    "ta",
    "u",
    "vor",
    "wen",
    "yl",
    "za",
)
ENDINGS = ("bard", "dan", "fin", "gard", "las", "mir", "nan", "rik", "sa", "thea", "ton", "vin")
