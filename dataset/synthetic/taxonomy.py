"""Which emoji are objects, what each is called, and what kind of thing it is.

The labels and subgroup numbers are those of the npm package `emojibase-data` (17.x); a subgroup that is
not in `CATEGORY_OF_SUBGROUP` (faces, gestures, hearts, signs, flags, clock faces, …) gives no objects.
"""

CATEGORY_OF_SUBGROUP = {
    23: "person", 25: "person", 26: "character", 27: "person", 28: "person", 29: "person",
    34: "animal", 35: "bird", 36: "reptile", 37: "reptile", 38: "sea animal", 39: "insect",
    40: "flower", 41: "plant", 42: "fruit", 43: "vegetable", 44: "food", 45: "food", 46: "dessert",
    47: "drink", 48: "kitchenware", 51: "building", 52: "building", 53: "attraction", 54: "vehicle",
    55: "boat", 56: "aircraft", 57: "container", 58: "timepiece", 59: "weather", 60: "decoration",
    61: "award", 62: "sports equipment", 63: "toy", 64: "craft supply", 65: "clothing", 66: "sound device",
    67: "sound device", 68: "musical instrument", 69: "device", 70: "device", 71: "device", 72: "book",
    73: "money", 74: "mail", 75: "stationery", 76: "stationery", 77: "tool", 78: "tool",
    79: "scientific instrument", 80: "medical equipment", 81: "household item", 82: "ornament",
}  # fmt: skip

# Exceptions to the subgroup's category.
CATEGORY_OF_LABEL = {
    "chair": "furniture", "mirror": "furniture", "door": "furniture", "window": "furniture",
    "toilet": "furniture", "bathtub": "furniture", "shower": "furniture", "seat": "furniture",
    "ladder": "tool", "bucket": "container", "basket": "container", "shopping cart": "vehicle",
    "horse racing": "person", "brick": "building material", "rock": "building material",
    "wood": "building material", "package": "container", "briefcase": "container",
    "backpack": "container", "handbag": "container", "purse": "container", "clutch bag": "container",
    "toolbox": "container", "jar": "container", "amphora": "container", "wheel": "vehicle part",
    "police car light": "device", "horizontal traffic light": "street sign",
    "vertical traffic light": "street sign", "stop sign": "street sign", "bus stop": "street sign",
    "construction": "street sign", "fuel pump": "device", "anchor": "tool", "ring buoy": "tool",
    "parachute": "aircraft", "manual wheelchair": "vehicle", "roller skate": "sports equipment",
    "skateboard": "sports equipment", "sled": "vehicle", "crown": "clothing", "ring": "jewellery",
    "gem stone": "jewellery", "prayer beads": "jewellery", "lipstick": "cosmetic",
    "hair pick": "household item", "razor": "household item", "umbrella with rain drops": "household item",
    "closed umbrella": "household item", "star": "decoration", "balloon": "toy", "teddy bear": "toy",
    "snowman without snow": "decoration", "feather": "animal part", "wing": "animal part",
    "bone": "animal part", "potted plant": "plant", "bouquet": "flower", "cherry blossom": "flower",
    "mushroom": "vegetable", "spiral shell": "sea animal", "camera": "device", "palm tree": "tree",
    "evergreen tree": "tree", "deciduous tree": "tree", "Christmas tree": "tree", "rocket": "aircraft",
    "microphone": "sound device", "kite": "toy", "robot": "toy", "ghost": "character", "bell": "sound device",
}  # fmt: skip

# Labels from subgroups that are otherwise dropped.
CATEGORY_OF_EXTRA = {"robot": "toy", "ghost": "character", "flexed biceps": None, "bone": "animal part"}

CATEGORIES = tuple(
    sorted({*CATEGORY_OF_SUBGROUP.values(), *CATEGORY_OF_LABEL.values(), "shape", "thing", "statue"})
)

# Not one physical thing, hardly recognisable, flat signs, or unfit.
DROPPED = frozenset(
    name.strip()
    for name in """
    dog face|cat face|cow face|pig face|mouse face|rabbit face|horse face|tiger face|dragon face|
    monkey face|spider web|man getting haircut|woman getting haircut|person getting haircut|
    admission tickets|aerial tramway|airplane arrival|airplane departure|baby angel|badminton|
    balance scale|ballot box with ballot|bank|bar chart|barber pole|beans|bell with slash|
    bellhop bell|bikini|black nib|bomb|bookmark|bookmark tabs|breast-feeding|
    bridge at night|briefs|bubbles|building construction|butter|calendar|camera with flash|
    canned food|card file box|card index|card index dividers|carp streamer|chains|
    chart decreasing|chart increasing|chart increasing with yen|chess pawn|cigarette|cityscape|
    cityscape at dusk|clamp|clinking beer mugs|clinking glasses|
    closed mailbox with lowered flag|cloud with lightning|cloud with lightning and rain|
    cloud with rain|cloud with snow|club suit|coffin|comet|confetti ball|construction|
    control knobs|convenience store|cooking|credit card|crescent moon|cricket game|
    crystal ball|curling stone|custard|cyclone|dango|department store|diamond suit|dna|
    drop of blood|droplet|dvd|e-mail|elevator|empty nest|envelope with arrow|euro banknote|
    falafel|fallen leaf|fax machine|feeding baby|field hockey|film frames|firecracker|
    fireworks|first quarter moon|first quarter moon face|fish cake with swirl|flag in hole|
    floppy disk|flower playing cards|fog|foggy|folding hand fan|fondue|framed picture|
    front-facing baby chick|full moon face|funeral urn|gear|genie|glowing star|goal net|
    hair pick|hammer and pick|hammer and wrench|hamsa|hatching chick|headstone|heart suit|
    herb|hibiscus face|high voltage|hindu temple|hook|hospital|hot springs|hotel|
    hourglass not done|houses|ice|identification card|inbox tray|incoming envelope|
    Japanese dolls|Japanese post office|joker|kaaba|label|lacrosse|last quarter moon|
    last quarter moon face|leaf fluttering in wind|leafy green|level|level slider|light rail|
    link|linked paperclips|locked with key|locked with pen|lotus|love hotel|low battery|
    mahjong red dragon|man feeding baby|man genie|man getting massage|man in steamy room|
    man pouting|man with veil|man zombie|martial arts uniform|mate|men with bunny ears|
    men wrestling|merperson|metro|microbe|military medal|milky way|minidisc|moai|
    mobile phone with arrow|money with wings|monkey face|moon viewing ceremony|mosque|motorway|
    mount fuji|mountain cableway|mountain railway|musical note|musical notes|musical score|
    muted speaker|Mx Claus|nazar amulet|new moon|new moon face|night with stars|oden|
    office building|open mailbox with lowered flag|optical disk|orange heart|outbox tray|
    page facing up|page with curl|pager|party popper|paw prints|people with bunny ears|
    people wrestling|performing arts|person feeding baby|person getting massage|person in bed|
    person in steamy room|person in suit levitating|person taking bath|person wearing turban|
    person with veil|petri dish|pig nose|pill|pine decoration|ping pong|placard|plaster|
    post office|pound banknote|pouring liquid|pregnant man|pregnant person|pregnant woman|
    railway track|rainbow|receipt|red envelope|reminder ribbon|rice cracker|ringed planet|
    rosette|sake|salt|sauropod face|school|shamrock|shinto shrine|shooting star|
    shopping bags|slot machine|snowflake|spade suit|sparkler|sparkles|speaker low volume|
    speaker medium volume|spiral calendar|stadium|station|Statue of Liberty|stuffed flatbread|
    sun behind cloud|sun behind large cloud|sun behind rain cloud|sun behind small cloud|
    sun with face|sunrise|sunrise over mountains|sunset|suspension railway|synagogue|
    takeout box|tamale|tanabata tree|thermometer|thong sandal|ticket|Tokyo tower|tornado|
    trackball|tram car|troll|twelve o’clock|umbrella on ground|videocassette|volcano|
    waning crescent moon|waning gibbous moon|wastebasket|water pistol|water wave|
    waxing crescent moon|waxing gibbous moon|wedding|wilted flower|wind face|
    woman feeding baby|woman genie|woman getting massage|woman in steamy room|woman with veil|
    woman zombie|woman’s clothes|women with bunny ears|women wrestling|worm|x-ray|
    yen banknote|zombie
    """.split("|")
)

RENAMED = {
    "dog face": "dog", "cat face": "cat", "tiger face": "tiger", "horse face": "horse", "cow face": "cow",
    "pig face": "pig", "mouse face": "mouse", "rabbit face": "rabbit", "dragon face": "dragon",
    "two-hump camel": "camel", "hatching chick": "chick", "baby chick": "chick", "spouting whale": "whale",
    "blowfish": "pufferfish", "lady beetle": "ladybug", "honeybee": "bee", "T-Rex": "dinosaur",
    "sauropod": "long-necked dinosaur", "spiral shell": "shell", "potted plant": "potted plant",
    "sheaf of rice": "wheat", "ear of corn": "corn", "kiwi fruit": "kiwi", "baguette bread": "baguette",
    "cheese wedge": "cheese", "shallow pan of food": "frying pan with food", "pot of food": "pot of stew",
    "bowl with spoon": "bowl", "steaming bowl": "bowl of noodles", "cooked rice": "bowl of rice",
    "curry rice": "plate of curry", "soft ice cream": "ice cream cone", "shaved ice": "shaved ice",
    "ice cream": "bowl of ice cream", "hot beverage": "cup of coffee",
    "bottle with popping cork": "champagne bottle",
    "teacup without handle": "cup of tea", "tropical drink": "tropical drink",
    "automobile": "car", "oncoming automobile": "car", "oncoming bus": "bus", "oncoming taxi": "taxi",
    "oncoming police car": "police car", "articulated lorry": "lorry", "locomotive": "steam train",
    "high-speed train": "train", "bullet train": "train", "sport utility vehicle": "jeep",
    "motor scooter": "scooter", "fire engine": "fire truck", "motorized wheelchair": "electric wheelchair",
    "manual wheelchair": "wheelchair", "horizontal traffic light": "traffic light",
    "vertical traffic light": "traffic light", "ring buoy": "lifebuoy", "hourglass done": "hourglass",
    "umbrella with rain drops": "umbrella", "closed umbrella": "folded umbrella",
    "snowman without snow": "snowman", "wrapped gift": "gift", "1st place medal": "gold medal",
    "2nd place medal": "silver medal", "3rd place medal": "bronze medal", "american football": "football",
    "rugby football": "rugby ball", "tennis": "tennis ball", "flying disc": "frisbee",
    "bowling": "bowling ball", "ice hockey": "hockey stick", "fishing pole": "fishing rod",
    "running shirt": "vest", "pool 8 ball": "billiard ball", "game die": "die", "nesting dolls": "doll",
    "necktie": "tie", "thong sandal": "sandal", "one-piece swimsuit": "swimsuit", "man’s shoe": "shoe",
    "woman’s sandal": "sandal", "woman’s boot": "boot", "woman’s hat": "sun hat", "billed cap": "cap",
    "gem stone": "diamond", "speaker high volume": "loudspeaker", "loudspeaker": "loudspeaker",
    "postal horn": "horn", "musical keyboard": "piano keyboard", "long drum": "conga drum",
    "telephone receiver": "telephone", "computer disk": "minidisc",
    "magnifying glass tilted left": "magnifying glass", "magnifying glass tilted right": "magnifying glass",
    "red paper lantern": "lantern", "diya lamp": "oil lamp", "notebook with decorative cover": "notebook",
    "closed book": "book", "open book": "open book", "dollar banknote": "banknote",
    "package": "cardboard box", "closed mailbox with raised flag": "mailbox",
    "open mailbox with raised flag": "mailbox", "tear-off calendar": "calendar", "file folder": "folder",
    "open file folder": "folder", "round pushpin": "pushpin", "straight ruler": "ruler",
    "triangular ruler": "triangular ruler", "locked": "padlock", "unlocked": "padlock",
    "carpentry saw": "saw", "nut and bolt": "bolt", "satellite antenna": "satellite dish",
    "adhesive bandage": "plaster", "roll of paper": "toilet roll", "playground slide": "slide",
    "carousel horse": "carousel horse", "breast-feeding": "mother", "snowboarder": "snowboarder",
    "horse racing": "jockey on a horse", "person biking": "cyclist", "man biking": "cyclist",
    "woman biking": "cyclist", "wood": "log", "person rowing boat": "person rowing a boat",
    "man rowing boat": "man rowing a boat", "woman rowing boat": "woman rowing a boat",
    "man bouncing ball": "man bouncing a ball", "woman bouncing ball": "woman bouncing a ball",
    "fork and knife": "fork and knife", "baby symbol": "baby", "older person": "elderly person",
    "green salad": "salad", "cup with straw": "soft drink", "beverage box": "juice box",
    "glass of milk": "glass of milk", "seedling": "seedling", "roasted sweet potato": "sweet potato",
    "flat shoe": "flat shoe", "person in lotus position": "meditating person",
    "video game": "game controller",
    "man in lotus position": "meditating man", "woman in lotus position": "meditating woman",
    "Santa Claus": "Santa Claus", "television": "television", "studio microphone": "microphone",
    "cut of meat": "steak", "meat on bone": "meat on a bone", "poultry leg": "chicken leg",
    "flying saucer": "flying saucer", "oil drum": "barrel", "nest with eggs": "nest with eggs",
    "tangerine": "orange", "seat": "seat", "white cane": "walking stick", "sports medal": "medal",
    "black bird": "crow", "bird": "bird", "bug": "caterpillar", "police car light": "siren",
    "gloves": "gloves", "wilted flower": "wilted flower", "lotion bottle": "lotion bottle",
    "person in manual wheelchair": "person in a wheelchair",
    "man in manual wheelchair": "man in a wheelchair",
    "woman in manual wheelchair": "woman in a wheelchair", "file cabinet": "filing cabinet",
    "person in motorized wheelchair": "person in a wheelchair",
    "man in motorized wheelchair": "man in a wheelchair",
    "woman in motorized wheelchair": "woman in a wheelchair",
    "person with white cane": "person with a cane", "man with white cane": "man with a cane",
    "woman with white cane": "woman with a cane", "person with skullcap": "person in a skullcap",
    "woman with headscarf": "woman in a headscarf", "person in tuxedo": "person in a suit",
    "man in tuxedo": "man in a suit", "woman in tuxedo": "woman in a suit",
    "man wearing turban": "man in a turban", "woman wearing turban": "woman in a turban",
    "person with crown": "person wearing a crown",
}  # fmt: skip

# Different words for things that must fall on the same side of the training / held-out division.
CONCEPT_OF_HEAD = {
    "sneakers": "shoe", "moccasin": "shoe", "slippers": "shoe", "cot": "bed", "sofa": "couch",
    "armchair": "chair", "stool": "chair", "lounger": "chair", "footstool": "chair", "pouffe": "chair",
    "rowboat": "boat", "orchids": "flower", "lily": "flower", "tulips": "flower", "flowers": "flower",
    "acacia": "tree", "cypress": "tree", "poplar": "tree", "pine": "tree", "maple": "tree", "beech": "tree",
    "yucca": "plant", "succulent": "plant", "bamboo": "plant", "planter": "plant", "van": "car",
    "desk": "table", "bulldog": "dog", "tricycle": "bicycle", "apples": "apple", "computer": "laptop",
    "automobile": "car", "taxi": "car", "jeep": "car", "ambulance": "truck", "lorry": "truck", "suv": "car",
    "minibus": "bus", "trolleybus": "bus", "tram": "train", "monorail": "train", "locomotive": "train",
    "canoe": "boat", "sailboat": "boat", "speedboat": "boat", "ship": "boat", "ferry": "boat",
    "cyclist": "bicycle", "biking": "bicycle", "scooter": "motorcycle", "chick": "chicken",
    "rooster": "chicken", "hen": "chicken", "ram": "sheep", "ewe": "sheep", "ox": "cow", "buffalo": "cow",
    "bison": "cow", "boar": "pig", "donkey": "horse", "unicorn": "horse", "jockey": "horse",
    "poodle": "dog", "fox": "fox", "kitten": "cat", "leopard": "tiger", "rat": "mouse", "hamster": "mouse",
    "llama": "camel", "mammoth": "elephant", "goose": "duck", "swan": "duck", "crow": "bird", "dodo": "bird",
    "dragon": "dinosaur", "t-rex": "dinosaur", "pufferfish": "fish", "clownfish": "fish", "seal": "seal",
    "tangerine": "orange", "melon": "watermelon", "book": "book", "notebook": "book", "ledger": "book",
    "books": "book", "boot": "shoe", "sandal": "shoe", "shoes": "shoe", "skate": "skate", "coat": "coat",
    "croissant": "bread", "baguette": "bread", "bagel": "bread", "flatbread": "bread", "pretzel": "bread",
    "pancakes": "pancake", "waffle": "pancake", "burger": "hamburger", "cupcake": "cake", "shortcake": "cake",
    "pie": "cake", "tea": "cup", "coffee": "cup", "teapot": "cup", "mug": "glass", "milk": "glass",
    "banjo": "guitar", "violin": "guitar", "maracas": "maracas", "shrimp": "lobster", "crab": "lobster",
    "postbox": "mailbox", "cap": "hat", "helmet": "hat", "handbag": "bag", "purse": "bag", "backpack": "bag",
    "briefcase": "bag", "luggage": "bag", "telephone": "phone", "hut": "house", "castle": "building",
    "church": "building", "factory": "building", "blossom": "flower", "tulip": "flower", "rose": "flower",
    "hibiscus": "flower", "sunflower": "flower", "lotus": "flower", "bouquet": "flower",
    "hyacinth": "flower", "robot": "robot", "axe": "axe", "seedling": "plant", "clover": "plant",
    "coin": "coin", "medal": "medal", "doll": "doll", "balloon": "balloon", "glasses": "glasses",
    "goggles": "glasses", "beard": "person", "hair": "person", "bald": "person", "veil": "person",
    "turban": "person", "tuxedo": "person", "skullcap": "person", "suit": "person", "headscarf": "person",
    "lollipop": "candy",
    "mailbox": "mailbox", "cardboard": "box", "notepad": "notebook", "clipboard": "clipboard",
    "watch": "clock", "jeans": "trousers", "shorts": "trousers", "kimono": "dress",
    "sari": "dress", "vest": "shirt", "t-shirt": "shirt", "softball": "baseball", "volleyball": "ball",
    "basketball": "ball", "baseball": "ball", "football": "ball", "fly": "fly", "honeybee": "bee",
}  # fmt: skip

# Everyday things of which a model that is used on real videos should not be kept ignorant: the class names
# of public detection vocabularies (COCO's 80), as concepts. Never held out.
EVERYDAY = frozenset(
    """person man woman boy girl baby child bicycle car motorcycle airplane bus train truck boat bird cat dog
    horse sheep cow elephant bear zebra giraffe backpack umbrella bag tie suitcase frisbee ski snowboard ball
    kite skateboard surfboard bottle glass cup fork knife spoon bowl banana apple sandwich orange broccoli
    carrot pizza doughnut cake chair couch plant bed table toilet television laptop mouse keyboard phone
    microwave oven toaster sink refrigerator book clock vase scissors toothbrush flower tree house duck fish
    rabbit chicken pig goat camel monkey walking running surfing swimming snowboarder dancing climbing
    motorcycle skier""".split()
)

COLOUR_WORDS = frozenset(
    "red orange yellow green blue purple pink brown black white grey gold silver".split()
)
