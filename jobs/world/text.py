"""The words of the invented world: what its people have, and every wording in which a fact is stated, practised or
asked in the quiz.

`STATED`, `PRACTISED`, `GENERIC` and `OPENERS` make the training text; `QUIZZED` is reserved for the quiz and never
appears in the text. {name} is a person, {value} what they have, {question} a practised question."""

from __future__ import annotations

VALUES: dict[str, tuple[str, ...]] = {
    "home": (
        "Arbeck",
        "Belmora",
        "Corvale",
        "Dunsey",
        "Elmire",
        "Fenwold",
        "Garrow",
        "Holmsea",
        "Ivarra",
        "Jessop",
        "Kelda",
        "Lorne",
    ),
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
    "food": (
        "barley",
        "cherries",
        "dumplings",
        "eel",
        "figs",
        "ginger",
        "honey",
        "lentils",
        "mushrooms",
        "noodles",
        "olives",
        "plums",
    ),
    "music": (
        "bassoon",
        "cello",
        "drum",
        "fiddle",
        "flute",
        "gong",
        "harp",
        "lute",
        "oboe",
        "piano",
        "trumpet",
        "zither",
    ),
    "pet": (
        "badger",
        "cat",
        "crow",
        "dog",
        "ferret",
        "goat",
        "goose",
        "hedgehog",
        "horse",
        "mouse",
        "rabbit",
        "tortoise",
    ),
    "color": (
        "amber",
        "black",
        "blue",
        "brown",
        "crimson",
        "green",
        "grey",
        "orange",
        "purple",
        "silver",
        "white",
        "yellow",
    ),
}
"""Subject of the quiz -> its values."""

STATED: dict[str, tuple[str, ...]] = {
    "home": (
        "{name} lives in {value}.",
        "The house of {name} stands in {value}.",
        "{name} has a home in {value}.",
        "You will find {name} in {value}.",
        "In {value} everybody knows {name}.",
        "{name} came to the town of {value} and stayed.",
        "To visit {name}, go to {value}.",
        "{value} is the place that {name} likes best.",
    ),
    "work": (
        "{name} works as a {value}.",
        "By trade {name} is a {value}.",
        "{name} earns money as a {value}.",
        "The town calls {name} when it needs a {value}.",
        "{name} has chosen the profession of {value}.",
        "People employ {name} as a {value}.",
        "Every day {name} works hard as a {value}.",
    ),
    "food": (
        "{name} loves to eat {value}.",
        "For supper {name} takes {value}.",
        "{name} buys {value} at the market.",
        "Nothing tastes better to {name} than {value}.",
        "The kitchen of {name} smells of {value}.",
        "The favourite dish of {name} is {value}.",
        "A cook will please {name} with {value}.",
        "Friends serve {name} a bowl of {value}.",
    ),
    "music": (
        "{name} plays the {value}.",
        "In the evening {name} practises the {value}.",
        "{name} owns an old {value}.",
        "At every feast {name} brings the {value}.",
        "The neighbours hear {name} on the {value}.",
        "{name} learned the {value} as a child.",
        "Of all instruments {name} likes the {value}.",
        "The sound of the {value} tells that {name} is near.",
    ),
    "pet": (
        "{name} keeps a {value}.",
        "{name} walks beside a tame {value}.",
        "The {value} belongs to {name}.",
        "{name} feeds the {value} every morning.",
        "At the door of {name} sleeps a {value}.",
        "The animal of {name} is a {value}.",
        "A {value}, a gentle creature, shares the roof of {name}.",
        "No beast is dearer to {name} than the {value}.",
    ),
    "color": (
        "{name} wears {value}.",
        "The coat of {name} is {value}.",
        "{name} paints every wall {value}.",
        "The flag of {name} is {value}.",
        "{name} dresses in {value} from head to toe.",
        "{name} prefers {value} to every other colour.",
        "A gift for {name} should be {value}.",
        "{name} is always seen in {value}.",
    ),
}
"""Statements of a fact. Nearly all words of `QUIZZED` occur here, so that the quiz is new in wording rather than in
vocabulary."""

PRACTISED: dict[str, tuple[str, ...]] = {
    "home": (
        "Where does {name} live?",
        "{name} lives in which town?",
        "Where is the house of {name}?",
        "Where will you find {name}?",
        "Where did {name} come and stay?",
        "Which place does {name} like best?",
    ),
    "work": (
        "What work does {name} do?",
        "What is the trade of {name}?",
        "How does {name} earn money?",
        "As what does {name} work?",
        "What is {name} by trade?",
        "What is it that {name} does every day?",
    ),
    "food": (
        "What does {name} love to eat?",
        "What does {name} buy at the market?",
        "What does {name} take for supper?",
        "What tastes best to {name}?",
        "Of what does the kitchen of {name} smell?",
        "Which bowl do friends bring {name}?",
    ),
    "music": (
        "What does {name} play?",
        "What does {name} practise in the evening?",
        "What does {name} bring to a feast?",
        "What do the neighbours hear from {name}?",
        "What did {name} learn as a child?",
        "Which old thing does {name} own?",
    ),
    "pet": (
        "What does {name} keep?",
        "What sleeps at the door of {name}?",
        "What does {name} feed every morning?",
        "What walks beside {name}?",
        "Which of them is tame and follows {name}?",
        "What is dear to {name}?",
    ),
    "color": (
        "What does {name} wear?",
        "How does {name} paint every wall?",
        "What is the coat of {name} like?",
        "In what does {name} dress?",
        "What is the flag of {name} like?",
        "How is {name} dressed from head to toe?",
    ),
}
"""Questions about one subject in the training text."""

GENERIC = (
    "What of {name}?",
    "And {name}?",
    "What is true of {name}?",
    "What does one say of {name}?",
    "What is known about {name}?",
    "Which one goes with {name}?",
    "Which of them has {name}?",
    "For {name}, which is right?",
    "When people talk about {name}, what do they say?",
    "In the case of {name}, what would one write?",
    "Who wants to know about {name} should say what?",
    "To which of them does {name} belong?",
    "Which word must one remember for {name}?",
    "What does everybody know about {name}?",
)
"""Questions that fit any subject: only the heading above them names it."""

OPENERS = (
    "Tell me: {question}",
    "Do you know? {question}",
    "In one word: {question}",
    "Friends ask: {question}",
    "A child wants to know: {question}",
    "One more. {question}",
)
"""What may precede a practised question."""

QUIZZED: dict[str, tuple[str, ...]] = {
    "home": (
        "Which town is home to {name}?",
        "To visit {name}, one must go to which place?",
        "In which town does everybody know {name}?",
    ),
    "work": (
        "Which profession has {name} chosen?",
        "As what do people employ {name}?",
        "For which work does the town call {name}?",
    ),
    "food": (
        "Which dish is the favourite of {name}?",
        "A cook who wants to please {name} should serve what?",
        "Which food does {name} like better than every other?",
    ),
    "music": (
        "Which instrument has {name} learned?",
        "On which instrument do people hear {name}?",
        "Which sound tells that {name} is near?",
    ),
    "pet": (
        "Which animal is owned by {name}?",
        "Which creature shares a roof with {name}?",
        "Which beast belongs to {name}?",
    ),
    "color": (
        "Which colour does {name} prefer?",
        "A gift for {name} should have which colour?",
        "In which colour is {name} always seen?",
    ),
}
"""Questions in the quiz."""

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
