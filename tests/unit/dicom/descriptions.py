"""Series descriptions as scanners and technologists write them, and what each one means for a head CT."""

DESCRIPTIONS = {
    "head": """
        HEAD 5.0 MPR AX|Routine Head 5.0 J37s|AX HEAD W/O|AXIAL HEAD WITHOUT|Head wo 2.5|CEREBRUM NATIF
        Crâne sans injection 5mm|Encéphale sans IV|TC CRANEO SIN CIV|TAC CEREBRAL SIMPLE
        TC cranio senza mdc 3mm|TC CRANIO S/C|TC Crânio s/ contraste|crânio sem contraste
        TK głowy bez kontrastu|głowa bez KM|КТ головы без КУ|голова без контраста 5мм|ГМ нативно голова
        头颅平扫5mm|脑平扫|頭部単純CT 5mm|頭部 plain|뇌 단순 CT|Schädel nativ 4.8|NCCT Schädel|CCT axial 4.0 H31s
        Kopf oKM|cCT ohne|Hersenen blanco|CT Schedel blanco|Hoved uden kontrast|Kopf o.KM 5 mm Hr40
        Gehirn Nativ|HIRN NATIV|TETE SANS INJECTION|CRANE C-|Crâne non injecté|HEAD/BRAIN WO CONTRAST
        CT BRAIN NON-CON|BRAIN NCON|Head wo thin|HEAD SEQ|Head Spiral 1.0 Hr38|HEAD AXIAL C- 5.0
        head stroke noncon|STROKE NCCT|Code Stroke Head WO|head pre contrast|HEAD PRE-CON
        pre contrast brain|HEAD TRAUMA WO W C SPINE|Trauma head/c-spine head|CT HEAD W/O + C-SPINE
        Kopf/HWS Kopf|Head 3mm Qr40|HEAD Br38|HEAD J30s 3|Head UB|HEAD C FILTER|cranio in bianco
        TC encefalo basale|encefalo diretto|CABEZA SIMPLE|CRANEO S/CTE|cabeza sin medio|Cabeça sem
        cabeça simples|mózgowie nativ|TK mózgowia bez kontrastu i.v.|glowa 5mm b/k|CT 頭部 造影なし|頭部造影(-)
        頭部造影無し|脑出血 平扫|頭部 5mm 骨折疑い|Head follow-up ICH 6h|Head ICH f/u|HEAD POST EVD 5.0|head s/p tPA
        post op head|HEAD POSTOP|Head post-op day 3|Kopf postop|CCT postoperativ|Crâne contrôle 24h
        Head 24h control|Brain/Head 5.0 STANDARD|AXIAL BRAIN STND|head iDose4|HEAD ASIR-V 50%
        HEAD DLIR-H|HEAD AIDR 3D|HEAD AiCE Brain|HEAD CLEAR VIEW|Head Deep Resolve|HEAD UHR OFF
        HEAD SMART MAR|Head O-MAR|CT Head portable OmniTom|Head Ceretom|HEAD 0.625|Cerebro 5mm
        Head 5 mm STD no IV|HEAD 2.5 SS20|Head Helical Thin Recon|C-/ HEAD|HEAD(C-)|CRANIO C-|頭部(造影-)
        頭部造影(−)|頭部造影（－）|頭部 NC 5mm|head CE-MARKED HOLDER|HEAD ART RED 5.0|Head metal artifact red
        HEAD ARTEFACT|Ventricles head 5mm|Head Ventric shunt|VENTRICULAR SHUNT HEAD|HEAD IVH F/U
        HEAD 1-PHASE|brain w/o c|Brain w/o 5x5|BRAIN W-O|Head s contr|head WO/|HEAD no contr
        HEAD W/OUT CONTRAST|CT HEAD WITHOUT CONTRAST-STROKE|head kontr. nej|Skalle utan kontrast
        CT hjärna utan|Hjerne u. kontrast|CT cerebrum u/k|Cerebrum uden KM|CT aivot natiivi 5mm
        Pään TT natiivi|Agy nativ|CT mozku nativ|mozek bez k.l.|Beyin BT kontrastsiz|kranial BT
        Kraniyal BT kontrastsız|craniu nativ|CT cerebral nativ|CT craniu fara contrast
        Tomografía de cráneo simple|TC encéfalo sin contraste|TAC de cerebro s/contraste IV|Head TCE
        Cranio TCE|TBI HEAD|Head NCT|HEAD NCCT 5.0 J40|stroke protocol: native head
        Schädel-CT nativ, 5.0, kaudal|cerebrale senza|testa senza mdc|Encéphale non injecté
        TDM cérébrale sans IV|Scanner cérébral C-|Scanner crâne sans|crâne SPC
        CT głowy bez podania kontrastu|TK mózgu natywna|голова 5.0 без в/в контраста|КТ ГМ|КТ ОГК голова
        головной мозг натив|头部CT平扫+三维|颅脑CT平扫(5mm)|頭部CT 単純 5mm軸位|頭部単純（外傷）
        뇌CT(비조영)|Brain CT (non)
        Brain CT noncontrast(adult)|Brain CT [NE]|Brain CT Pre|brain pre 5mm|Pre 5.0 HEAD|Head Post fall
        Head post seizure|Head post arrest|head post lysis|Head post-procedure|head POST THROMB
        head post embolization
        Virtua Head WO|24h delayed head|Head 6 hr delayed|HEAD DELAYED 24 HR|delayed ICH head
        delayed bleed head|Head late follow-up|Head portable late evening|Head 120kV 300mA|HEAD KV80 J40
        HEAD H31|HEAD HR38|Head Hr40 3|Head J40s|Monophasic head|HEAD B30|HEAD B31S|HEAD FC26|HEAD FC21
        HEAD FC64|HEAD FC68 5.0|头骨|颅骨|头颅骨折|头部外伤 骨折|頭蓋骨骨折|두개골 골절
        Schädel CT nach Sturz|Kopf nach OP
        Kopf nach Trauma|CCT nach Lyse|Kopf nach EVD|Head after thrombectomy|head post thrombectomy
        head post tpa|post coiling head|POST CLIPPING HEAD|HEAD POST DRAIN|Crâne après chute|crâne post-op
        crane traumatisme|TC cranio post trauma|cranio dopo caduta|TC encefalo post intervento
        cráneo tras caída|cráneo tras TCE|TC crânio pós trauma|crânio pós-operatório|głowa po urazie
        głowa po operacji|голова после травмы|мозг после операции|头部术后|头颅术后复查|頭部 術後|뇌 수술후
        Head iMAR|HEAD MAR
        HEAD SAFIRE|HEAD ADMIRE 3|HEAD Quantum|Head PCCT 120kV|HEAD T3D|Head Conventional|HEAD Poly 120
        HEAD DE F 0.5|Head DE mixed|HEAD AVERAGE 0.4|head mixed 120kV eq|HEAD DECT 120|Head IV drug user
        Head ICU|HEAD CONTUSION|Head CTX|head concussion|contracture head|Brain C/O headache|HEAD C SPINE
        HEAD CAP|HEAD AND FACE|CT HEAD/FACE WO|HEAD AND SINUS|CT HEAD & ORBITS WO|HEAD COLLAR ON|Head EVD
        HEAD VP SHUNT|Head shunt series CT|HEAD 5MM PLUS|Head C1-C2|Head 5min post op day 1 WO
        delayed hemorrhage follow up head wo|Head follow-up delayed ICH|Kopf ohne i.v. KM|Schädel ohne i.v.
        CCT ohne KM i.v.|Kopf o. KM|Kopf o KM|Kopf KM-frei|CCT nativ 5.0 Hr38|head noncontrast 5mm|HEAD NC
        HEAD N/C|HEAD I-|Head -C|HEAD -|Brain without|Head no contrast|Head w/o con|HEAD WO CON
        head wo IV con|Head W O C|HEAD NO C|Head unenh|HEAD UNENHANCED 5 MM|Crâne sans IV|crâne S-|crâne C-
        crane IV-|crâne sans PC|TDM crâne sans produit de contraste|crâne sans produit de contraste iodé
        cranio s/mdc|cranio s mdc|cranio senza m.d.c.|cranio base|cranio diretto|cranio in condizioni basali
        craneo s/c|craneo sin cte|cráneo sin contraste iv|cráneo simple 5mm|TAC de cráneo s/civ|crânio s/c
        cranio s/ contraste|crânio sem contraste EV|TC de crânio simples|głowa bez k.k.
        głowa bez środka kontrastowego|głowa przed kontrastem|głowa natywnie|TK głowy b/k
        мозг без контрастирования|голова до контраста|голова б/к|нативная голова|КТ головного мозга нативное
        头颅平扫|头颅CT平扫|颅脑CT|头颅(平扫)|头部 非增强|头部无增强|頭部単純 5mm|頭部 単純のみ|頭部CT(単純)
        頭部 造影前|두부 비조영증강|뇌 비조영 CT|뇌 CT (비조영)
        두부 무조영|Neuro Brain H31|Ax Head 5mm STD|Head Helical|THIN HEAD|Head Thins|Head 1.25 thin std
        HEAD SOFT|HEAD BRAIN 5/5|TRAUMA HEAD|ED HEAD|PORTABLE HEAD|HEAD PEDS|Ped Head 3.0|PEDIATRIC HEAD
        INFANT BRAIN|BABY HEAD|Schädel Säugling|HEAD VOL|Head Volume 0.5|Cerebrum 4.5|SKULL|Skull 5.0
        Posterior fossa head|Fossa 2.5 head|Head base|Base of skull brain|Kopf Basis|Hirn supratentoriell
        Schädel axial 5mm|Hjerne|Hjerne uten kontrast|CT caput|Caput uten kontrast|Huvud nativ|Pää
        Pää natiivi|Aivot|Hlava nativ|Hlava bez KL|Koponya CT natív|Kafa kontrastsız|Beyin BT|BT beyin
        HEAD MEDIASTINUM KERNEL|HEAD ANGLED|HEAD REFORMAT AX|Head MPR ax 5|brain mpr|HEAD AC-PC
        Head ACPC line|Head mono-phasic helical|BRAIN LAB|BRAINLAB head|STEALTH HEAD|Head Navi
        Stereotactic head|CT Head Stroke protocol|Code stroke head|Alert neuro head
        HEAD CT W/O CONTRAST MATERIAL|CT Head or Brain w/o Contrast|IMP: CT HEAD|Head_5mm_w/o|Head(C-)
        HEAD WITHOUT IV|Head w-o|brain w/out|BRAIN W/OUT CONTRAST|w/out contrast head|HEAD SANS
        Hode uten kontrast|Beyin kontrastsız|Hoofd blanco|Cráneo s/c|Crânio s/ contraste
        TDM cérébrale sans PDC|Koponya natív|颅脑CT平扫 5mm|두부 CT 비조영|NEURO HELICAL ROUTINE
        HEAD|CT HEAD|HEAD 5.0|HEAD AXIAL 5.0|Head 5.0 H30s|Head 5.0 Hr40|HEAD WO|Head W/O|CT HEAD WITHOUT
        HEAD WO CONTRAST
        CT HEAD WO IV CONTRAST|Head without contrast 5.0|BRAIN|BRAIN WO|Brain W/O Contrast 2.5mm|AX BRAIN
        AXIAL BRAIN 5MM
        HEAD STANDARD|ROUTINE HEAD|Routine Head 5mm|HeadSeq 4.8 H31s|HeadRoutine 5.0|Head_Spiral 1.5|HEAD ST 2.5
        CTHEAD
        AX ORBITOMEATAL 5.0|Head OM line|ORBITO-MEATAL 5MM|HEADNECK|Head C-|HEAD (-C)|NCCT|NCCT HEAD|NON CON HEAD
        Non-contrast head|HEAD NONCON 5MM|Unenhanced brain|HEAD PLAIN|CT BRAIN PLAIN|CT Brain P|pre contrast head
        HEAD PRE
        HEAD POST FOSSA|POST OP HEAD|HEAD POST-OP|Head trauma|STROKE|STROKE HEAD 5.0|Stroke NCCT 0.625
        HEAD WITH C-SPINE
        CT HEAD AND CERVICAL SPINE|Skull base 2.5 / vertex 5|CRANIUM|Cranial CT|CCT|cerebrum|INTRACRANIAL
        head no iv contrast
        Head, contrast not given|HEAD CONTRAST NOT ADMINISTERED|5mm thick MPR Head|Head 3mm MPR Tra|FILTERED HEAD
        Neuro Head|NEURO 5MM|BRAIN IRIS|HEAD ASIR 40%|HEAD iDose (3)|Head AIDR|HEAD TRUE FIDELITY DLIR-H
        Schädel|Schädel nativ|Schaedel 5.0|CCT nativ|Kopf|Kopf nativ 5mm|Kopf ohne KM|Schädel ohne Kontrastmittel
        Kopf kein KM
        Gehirn|Hirn 4.0|Neurocranium|Neurokranium nativ|Schädel vor KM|CCT 5mm kraniokaudal|Kopf, KM nicht gegeben
        Schädelbasis|Schädel Trauma|Hirnschädel 3mm
        Crâne|CRANE|Crâne sans injection|Crâne SPC|Tête sans contraste|Encéphale|CERVEAU SANS IV|crâne non injecté
        Cérébral sans PDC|TDM cérébrale|CRANE 5MM SANS|Crane avant injection
        Cranio|CRANIO SENZA MDC|TC cranio basale|Encefalo|Encefalo senza contrasto|TC encefalo smdc|TESTA 5 mm
        CAPO BASALE
        cranio senza mezzo di contrasto|TC CRANIO PRIMA DEL MDC
        Cráneo|CRANEO SIMPLE|TC cráneo sin contraste|Craneo s/ contraste|Cabeza|CABEZA SIN CIV|Cerebro
        TAC cerebral sin contraste
        Cráneo sin civ 5.0|Encéfalo basal
        Crânio|CRANIO SEM CONTRASTE|Cabeça|CABECA SEM|TC crânio sem contraste
        Encéfalo sem contraste
        Glowa|Głowa|Głowa bez kontrastu|Glowa natywna|mózg|TK mózgu bez kontrastu|Czaszka 5 mm|GLOWA BEZ KONTR
        głowy 3.0
        Голова|Голова нативно|Головной мозг|Головной мозг без контраста|КТ головы|Череп 5 мм|мозг без КУ
        ГОЛОВА БЕЗ К/У
        Голова нативная фаза|головного мозга до введения контраста
        头|头部|头部平扫|颅脑平扫|颅脑 CT 平扫|头颅 5mm|脑|头颅未增强|顱腦|頭部平掃|腦部
        頭部|頭部単純|頭部単純CT|脳|頭部 造影なし|頭部 非造影|脳血管障害 頭部|頭蓋|頭部CT 5mm
        두부|두부 비조영|뇌|뇌 단순|뇌 CT 5mm|머리|두개골|Brain 비조영|두부 조영전
        Hoofd|Hoofd zonder contrast|Hersenen|Huvud|Huvud utan kontrast|Hjärna|Hode uten|Hoved|Kafa|Beyin|Hlava|Koponya
        """,
    "contrast": """
        HEAD W CONTRAST|Head W+C|HEAD + C|Head with IV|post contrast head 5.0|HEAD CE|Brain C+
        BRAIN POST CM|CCT mit KM|Kopf KM+|Kopf n. KM|Schädel nach KM-Gabe|Encéphale IV+|Crâne inj.
        crâne après IV|TC CRANEO CON CIV|TAC cráneo contrastado|cabeza con medio de contraste
        TC cranio con mezzo di contrasto|encefalo con MdC|cranio dopo mdc|crânio com contraste
        TC crânio pós-contraste|głowa z kontrastem|TK głowy po kontraście|głowa po KM
        голова с контрастом|голова с КУ|КТ головы с контрастированием|мозг артериальная фаза|头颅增强|颅脑增强扫描
        头部CTA|頭部 造影後|뇌 CT 조영|CTA COW|Angio head|CT Angio Brain 0.6|HEAD VENOGRAM|head arterial 1.0
        HEAD ART PHASE|Head venous phase|HEAD VEN 5mm|Head portal|mCTA phase 2 head|HEAD MULTIPHASE CTA
        MULTIPHASE HEAD PH2|head delayed|Delay head 5 min|Head delay 90s|HEAD ANGIOGRAPHY 0.75 Hv36
        Hoofd met contrast|CTA Hersenen|Hjärna med kontrast|头颅CT增强动脉期|頭部CTA 0.5|TSA Kopf
        Angio TSA cranio|angioTC encefalo|AngioTAC craneo|angio-TC crânio|Angioscanner cérébral
        ARTERIOGRAPHIE CEREBRALE TDM|Brain CT Post|Brain post 5mm|Head post IV|Pre/Post head post
        HEAD ENHANCED|HEAD C+ 5.0|brain C+ delayed|Brain CT contrast|Brain CT [CE]|Brain CT (CE)
        Brain CE 3mm|CECT Head|Head CECT|CT HEAD W|CT BRAIN W/|CT HEAD W & WO CONTRAST|BRAIN W/WO
        Head with & without|head after contrast|Head IV con|HEAD 2ND PHASE CTA|HEAD CTA DELAY
        skalle med kontrast|CT hjärna m kontrast|cerebrum m/k|Cerebrum med KM|mozek s k.l.|hlava po KL
        kontrastlı beyin BT|Beyin kontrastlı|craniu cu contrast|Schädel m. KM|CCT m. KM|Kopf KM i.v.
        Kopf art.|Kopf ven.|Kopf venoese Phase|crâne avec PDC|Encéphale avec IV|crâne temps artériel
        crâne temps veineux|encefalo con contrasto e.v.|cráneo fase arterial|cráneo fase venosa
        cráneo contrastada|crânio contrastado|голова после контрастирования|голова в/в контраст
        головной мозг с в/в КУ|头颅增强 静脉期|颅脑 CT+C|颅脑 C+|頭部静脈相|頭部造影(+)
        頭部 ダイナミック|頭部 造影|뇌 CT(조영)|뇌 동맥기
        뇌혈관 CT|脑血管CTA|颅脑血管成像|頭部血管|3D-CTA head|4D CTA head|Head dynamic CTA|circle of willis
        Head angio 1.0
        Head delayed 5 min|HEAD DELAY|Brain delayed phase|HEAD LATE PHASE|5 MIN DELAY HEAD|Head 3min delay
        delayed head 5.0|Kopf Spätphase|Schädel spaet nach 5 min|CCT verzögert|CCT venöse Spätphase
        Crâne temps tardif|crane tardive 5mn|cerebral tardif|cranio fase tardiva|encefalo tardivo
        cráneo fase tardía|craneo retardado|cabeza tardio|crânio fase tardia|cranio tardio|głowa faza późna
        glowa faza opozniona|голова отсроченная фаза|головной мозг поздняя фаза|头部延迟期|颅脑 延迟扫描|頭部 遅延相
        頭部 遅延 5分|두부 지연기|뇌 지연 영상|Head PV phase|HEAD W IV|HEAD W CON|HEAD W/CON
        Head w/ IV contrast|BRAIN W+WO
        HEAD W&WO|Head +IV|HEAD +CM|Head IV+|HEAD +KM|Kopf +KM|KM+ Kopf|Kopf m. KM|Kopf m KM|Kopf KM venös
        Schädel i.v. KM|Schädel KM iv|CCT mit i.v. KM|CTA Hals Kopf|CT-A Head|CT-V head|COW CTA
        Head CTA thin|mCTA head|multiphase CTA phase 2 head|Head Peak arterial|arterial head 0.6
        Sinus venous CTV head|VENOGRAM BRAIN|crâne inj|crane IV+|crâne C+|crâne + C|Crâne IV +|crâne avec IV
        angio-scanner crane|angioTDM cerebral|crâne apc|TDM cérébrale avec PDC|crâne post injection
        polygone de Willis|TC cranio c/mdc|cranio con m.d.c.|cranio post mdc|cranio post-contrasto
        cranio contrastografica|ANGIO-TC encefalo|craneo c/c|cráneo C/contraste|craneo contrastada|craneo iv
        cráneo con CIV|TAC craneal con contraste|crânio c/ contraste EV|cranio c/c|crânio pós contraste
        TC cranio com contraste endovenoso|głowa z k.k.|głowa ze środkiem kontrastowym
        głowa po podaniu kontrastu|głowa po i.v.|głowa CTA|мозг после введения контраста
        голова с в/в контрастированием|голова + контраст|голова с к/у|КТ головы с болюсным контрастированием
        артерии головы|голова вен фаза|头颅增强扫描|头颈部血管CTA|头CTV|颅脑CTP+CTA|头部强化|頭部造影後
        頭部 造影あり|脳血管造影CT|頭部CE
        頭部 CTA 3D|뇌 조영후|두부 조영 후|뇌 CT 조영 증강|조영증강 두부
        CE head|Crâne APC|Hode med kontrast|Huvud med kontrast|Crânio c/ contraste|CCT KM art
        HEAD W|CT HEAD W CONTRAST|Head with contrast|HEAD C+|Head +C|BRAIN W/ CONTRAST|HEAD POST|post contrast head
        HEAD WWO CONTRAST
        CTA HEAD|CTA HEAD NECK|CT ANGIO HEAD|CTA CIRCLE OF WILLIS|CTA COW 0.625 HEAD|Head Angio 1.0|HEAD ANGIOGRAM
        CTV HEAD|CT VENOGRAM HEAD
        Head arterial phase|HEAD ART 1.0 arterial|HEAD VENOUS|Head IV contrast|HEAD BOLUS|Contrast enhanced head
        Enhanced brain|CECT BRAIN
        HEAD WITHOUT AND WITH CONTRAST|Brain pre and post contrast|head portal venous|Stroke CTA|CE CT head
        Schädel mit KM|Kopf nach KM|CCT KM|Kopf mit Kontrastmittel|Schädel Angio|CT-Angiographie Kopf|Kopf arteriell
        Kopf venös|Schädel nach Kontrast
        Crâne avec injection|Crâne injecté|CRANE AVEC IV|angioscanner cérébral|Crâne après injection|Tête avec PDC
        Crâne temps artériel|TSA crane|crâne veineux
        TC cranio con mdc|Cranio dopo mdc|ENCEFALO CON CONTRASTO|Angio TC cranio|cranio mdc
        Encefalo con mezzo di contrasto|cranio fase arteriosa|TC testa c+
        Cráneo con contraste|CRANEO CON CIV|AngioTC cráneo|Cabeza con contraste iv|cráneo contrastado
        Cerebro fase arterial|craneo con c|TAC craneo tras contraste
        Crânio com contraste|CRANIO POS CONTRASTE|Angio TC crânio|crânio fase arterial|Cabeça com contraste
        Crânio após contraste|cranio fase venosa
        Głowa z kontrastem|Głowa po kontraście|GLOWA Z KONTR|angio głowy|Angio TK głowy|głowa faza tętnicza
        głowa faza żylna|mózg z kontrastem
        Голова с контрастом|Голова с КУ|КТ-ангиография головы|Головной мозг с контрастированием
        голова артериальная фаза|голова венозная фаза|Голова С+|КТА головы|голова после контраста
        头部增强|颅脑增强|头颈CTA|头部动脉期|头部静脉期|颅脑造影|脑血管成像|頭部增強|头部 强化
        頭部造影|頭部造影CT|脳 造影|頭部 動脈相|頭部 静脈相|頭部CTA|頭部 造影 1mm
        두부 조영|뇌 조영증강|두부 CTA|뇌혈관조영|두부 동맥기|뇌 정맥기|Brain 조영
        """,
    "sharp": """
        HEAD BONE 1.0|Head bone plus 0.6|Schädel Knochenfenster Hr60|Crâne os|cráneo hueso|głowa kość
        TK głowy kostne|두부 골창|HEAD H60s|HEAD Hr64|head FC81|head sharp|HEAD J70h|Head HD BONE|head HR 64
        HEAD Hr 64|HEAD BONE ALG|Head bne 1.25|HEAD B70f|Crâne filtre os|kopf scharf
        cranio finestra ossea|głowa okno kostne|голова костный режим|头颅骨算法|Hlava kost
        HEAD BONE 1.25MM|Head HR bone|HEAD BNE|bone algo head|Head bone algorithm|BONE HEAD THIN|Kopf Hr64
        Head 1.0 Hr69|Head 0.75 H70h|HEAD FC30|Head H60s 1.0|Knochen Kopf|Schädel knöchern|os crâne|crane os
        crâne OS 0.6|filtre os crâne|cranio osso 1mm|cranio filtro osso|craneo hueso|cráneo ventana ósea
        crânio janela óssea|glowa okno kostne|кости черепа 1.0|голова костный фильтр|头颅骨窗|头部 骨
        颅骨 骨算法|頭部 骨
        頭部骨条件|頭部 骨関数|두부 bone|두부 골|뇌 골창
        HEAD BONE|Head Bone 1.25|BONE PLUS HEAD|Head sharp 3.0|HEAD EDGE|HEAD BONE WINDOW|Kopf Knochen
        Schädel Knochenfenster
        Crâne osseux|crâne fenêtre osseuse|cranio osso|CRANIO OSSEA|cráneo óseo|crânio osso|glowa kosc|Głowa kostne
        голова кости|голова костное окно
        头部骨窗|颅脑骨算法|頭部 骨条件|두부 뼈
        """,
    "spectral": """
        Head virtual non contrast|Kopf VNC|Head MonoE 70|HEAD 70KEV|Brain mono+ 190keV|Head iodine map
        HEAD Z EFF|HEAD RHO/Z|Head GSI 65 keV|HEAD CBCT|Head DynaCT|tête CBCT|tête iode|Crâne monoE 60
        头 虚拟平扫|头颅 单能 70keV|脑 碘图|뇌 가상 단색|head bone removal|CTA HEAD BONE REMOVED|cabeza monoenergética
        cranio mono 65|Head VUE|голова моно 70 кэВ|cranio iodio|head 40 keV|Head SBI 70|Head conv VNC
        HEAD NON-CA|HEAD BONE-SUB|head calcium suppressed|头 单能量|頭部 単色X線|kopf virtuell nativ
        Crâne virtuel sans contraste|cráneo virtual sin contraste|cranio virtuale senza contrasto
        crânio virtual sem contraste|głowa wirtualne|Head O-arm|Head Loop-X|flat panel head|head FPCT
        3D-RA head|SyngoDyna head
        Head QIR mono|Head 70 keV|Head mono|Mono Head|HEAD MONO QIR 4|Head MonoE=65 keV|Head ME40
        head vmi 67 kev|head VMI+|head mono70|HEAD VNC QIR|Liver VNC head|HEAD PureCalcium
        Head Iodine(Water)|Iodine (HAP) head|head I- map|head iodine overlay|Head PURELUMEN|Pure lumen head
        head Zeff map|Head rho|Head eDensity|Head BoneFree|Head w/o bone subtraction|HEAD bone removal
        Kopf Knochen entfernt|Kopf knochenfrei|head uric acid|HEAD CONE-BEAM|head CBCT 3D|DynaCT Kopf
        syngo DynaCT head|XperCT brain|Kopf Kegelstrahl|FD-CT head|Flat detector head CT
        head virtual mono 50|head Virtual noncontrast|head low keV|Head monoenergie 40|crâne mono 40 keV
        cráneo monoenergético|cranio monoenergetica|cranio virtuale senza mdc|crâne carte iode
        mapa de yodo craneo|mapa iodo crânio|mappa iodio cranio|głowa monoenergetyczna|mapa jodowa głowa
        голова виртуальная нативная|карта йода голова|йодная карта головы|头部单能量|头部虚拟平扫|头部碘图
        头颅碘基图|頭部 仮想単色
        頭部 ヨードマップ|두부 가상단색|두부 요오드 맵|crâne sans contraste virtuel|VNC crâne|Head spectral mono 60
        HEAD MonoE 40keV|Head Mono 70 keV|HEAD MONOENERGETIC 50|Head Mono+ 40keV|Monochromatic 65 keV head
        Head VMI 55|MonoE 140 brain|Head 190keV
        HEAD VNC|Virtual non contrast head|Head virtual unenhanced|VUE HEAD|virtuell nativ Kopf|Head VNCa
        Virtual noncalcium head
        HEAD IODINE MAP|Iodine no water head|Kopf Jodkarte|Head Z Effective|Zeff head|HEAD Z-EFF
        Head electron density|Kopf Elektronendichte|Rho/Z head
        HEAD BONE REMOVED|Head bone subtraction|BONE SUB HEAD|Bone-free head|Subtracted head
        Head calcium suppressed 50|Head material density water
        DynaCT Head|XperCT head|CBCT HEAD|Cone beam head|FlatPanel CT head|Head Cone-Beam CT|O-ARM HEAD
        Innova CT brain|FDCT head
        头部单能 60keV|虚拟平扫 头|颅脑 碘图|頭部 仮想単純|頭部 電子密度|두부 가상비조영|голова моноэнергетическое 40
        """,
    "other purpose": """
        HEAD SCOUT|Topogram 0.6 head|SURVIEW head|Head perfusion|CTP head|MIP head cor|Head VRT|CBF Head
        Dose report|Head localizer|Тест болюс|perfuzja mózgu|头颅灌注|頭部灌流|head bolus tracking
        PreMonitoring head|Head TMAX|Head AP topo|head LAT scout|Head CTP RAPID|RAPID summary head
        RAPID Tmax|head MinIP|Head Volume Rendering|SSD skull|3D skull VR|head cor MPR MIP
        Head dose info|Head protocol page|monitoring head|head timing bolus
        SCOUT HEAD|Topogram 0.6 T20s|HEAD LOCALIZER|Surview|Scanogram head|MIP HEAD AX|Head MIP thin|VRT head
        PERFUSION HEAD|CT Perfusion brain|Head CBF
        TMAX BRAIN|HEAD CTP|Dose Report|Patient Protocol|PreMonitoring|Monitoring|Test bolus|Smart Prep|Screen Save
        头部灌注|голова перфузия|뇌 관류
        """,
    "sinuses or face": """
        SINUS|CT SINUSES|NNH|FACIAL BONES|Maxillofacial|ORBITS|Orbita|Mandible
        Senos paranasales|Zatoki|Пазухи носа|鼻窦|副鼻腔|부비동
        """,
    "temporal bone": "Temporal bone|IAC|Inner Ear|InnerEarSpi 0.6|Felsenbein|Rocher|Oído|Височная кость|颞骨|内耳",
    "neck": "NECK|Hals|Soft tissue neck|Cuello|Collo|Pescoço|Szyja|Шея|颈部|경부",
    "spine": "C-SPINE|CSPINE|C SPINE 2.0|HWS|LWS|Cervical|Rachis|Columna|Kręgosłup|Позвоночник|颈椎|頸椎|척추",
    "chest": "CHEST|Thorax|THORAX 5.0|LUNG|Tórax|Torace|Klatka piersiowa|Грудная клетка|胸部|흉부",
    "abdomen or pelvis": "ABDOMEN|ABD/PELVIS|Becken|Addome|Abdomen nativ|Brzuch|Брюшная полость|腹部|복부",
    "extremity": "KNEE|LEFT HIP|Femoral head|ARM|Humeral head|Knie|Genou|Rodilla|膝",
    None: "5.0 mm axial|Recon 2: 2.5|H30s|Series 3|O-ARM|arms down|head first|1.25 STND|Axial|",
}
